"""What the templates promise, read back from the synthesised CloudFormation."""
import json
from pathlib import Path
import pytest
import yaml
from aws_cdk import App
from app import FLAGS, build
from cost import monthly
from environment import environments

PRICES = yaml.safe_load(Path(__file__).with_name("prices.yaml").read_text())


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    "Resources by environment, stack and type."
    app = App(context=FLAGS, outdir=str(tmp_path_factory.mktemp("out")))
    build(app)
    made = {}
    for stack in app.synth().stacks:
        _, environment, name = stack.stack_name.split("-")
        for resource in json.loads(Path(stack.template_full_path).read_text())["Resources"].values(): made.setdefault((environment, name), {}).setdefault(resource["Type"], []).append(resource)
    return made


def properties(templates, environment, stack, kind): return [r.get("Properties", {}) for r in templates[environment, stack].get(f"AWS::{kind}", [])]


def test_prod_is_what_the_contract_asks(templates):
    group, = properties(templates, "prod", "cluster", "EKS::Nodegroup")
    assert group["ScalingConfig"] == {"DesiredSize": 3, "MaxSize": 10, "MinSize": 3} and group["InstanceTypes"] == ["m5.large"]
    primary, replica = properties(templates, "prod", "data", "RDS::DBInstance")
    assert primary["MultiAZ"] and primary["StorageEncrypted"] and primary["DeletionProtection"] and primary["DBInstanceClass"] == replica["DBInstanceClass"] == "db.t3.large"
    assert "SourceDBInstanceIdentifier" in replica and primary["BackupRetentionPeriod"] == 35


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_nothing_is_open_to_the_world(templates, environment):
    for (name, stack), kinds in templates.items():
        if name != environment: continue
        for wall in kinds.get("AWS::EC2::SecurityGroup", []):
            assert not [rule for rule in wall["Properties"].get("SecurityGroupIngress", []) if rule.get("CidrIp") == "0.0.0.0/0"], stack
        for base in kinds.get("AWS::RDS::DBInstance", []): assert base["Properties"]["PubliclyAccessible"] is False
    cluster, = properties(templates, environment, "cluster", "EKS::Cluster")
    assert cluster["ResourcesVpcConfig"]["PublicAccessCidrs"] == ["203.0.113.0/24"]


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_pods_cannot_reach_the_metadata_server(templates, environment):
    options = properties(templates, environment, "cluster", "EC2::LaunchTemplate")[0]["LaunchTemplateData"]["MetadataOptions"]
    assert options["HttpTokens"] == "required" and options["HttpPutResponseHopLimit"] == 1


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_data_is_encrypted_at_rest_and_on_the_way(templates, environment):
    redis, = properties(templates, environment, "data", "ElastiCache::ReplicationGroup")
    assert redis["TransitEncryptionEnabled"] and redis["AtRestEncryptionEnabled"]
    assert properties(templates, environment, "data", "EFS::FileSystem")[0]["Encrypted"]
    assert all("BucketEncryption" in bucket and all(bucket["PublicAccessBlockConfiguration"].values()) for stack in ("data", "edge") for bucket in properties(templates, environment, stack, "S3::Bucket"))
    assert all(settings["Parameters"]["rds.force_ssl"] == "1" for settings in properties(templates, environment, "data", "RDS::DBParameterGroup"))
    policies = json.dumps(properties(templates, environment, "data", "S3::BucketPolicy"))
    assert policies.count("aws:SecureTransport") == len(properties(templates, environment, "data", "S3::Bucket"))


def test_prod_keeps_its_data_and_staging_lets_it_go(templates):
    for environment, policy in (("prod", "Retain"), ("staging", "Delete")):
        kept = [r for kind in ("S3::Bucket", "RDS::DBInstance", "EFS::FileSystem") for r in templates[environment, "data"][f"AWS::{kind}"]]
        assert kept and all(r["DeletionPolicy"] == policy for r in kept)


def test_no_secret_is_written_down(templates):
    redis, = properties(templates, "prod", "data", "ElastiCache::ReplicationGroup")
    assert "resolve:secretsmanager" in json.dumps(redis["AuthToken"])
    assert "resolve:secretsmanager" in json.dumps(properties(templates, "prod", "data", "RDS::DBInstance")[0]["MasterUserPassword"])


def test_each_service_account_has_a_role_of_its_own(templates):
    pods = properties(templates, "prod", "cluster", "EKS::PodIdentityAssociation")
    assert len({json.dumps(p["RoleArn"]) for p in pods}) == len(pods) >= 9
    writers = [p for p in properties(templates, "prod", "cluster", "IAM::Policy") if "s3:PutObject" in json.dumps(p)]
    assert len(writers) == 1 and "jobs" in writers[0]["PolicyName"]


@pytest.mark.parametrize("change, told", [({"nodes": {"type": "m5.large", "least": 3, "most": "10", "disk_gb": 100}}, "prod.nodes.most must be int, got '10'"), ({"regoin": "x"}, "got regoin"), ({"domain": None}, "prod.domain must be str")])
def test_a_typo_is_refused_by_name(tmp_path, change, told):
    given = yaml.safe_load(Path(__file__).with_name("environments.yaml").read_text())
    given["prod"].update(change)
    path = tmp_path / "environments.yaml"
    path.write_text(yaml.safe_dump(given))
    with pytest.raises(ValueError, match=told): environments(path)


def test_costs_grow_with_nodes_and_replicas():
    costs = {name: [sum(part) for part in zip(*monthly(emp, PRICES).values())] for name, emp in environments().items()}
    assert costs["staging"][0] < costs["prod"][0] < costs["prod"][1] and costs["prod"][1] - costs["prod"][0] == pytest.approx(7 * (730 * .096 + 8))
