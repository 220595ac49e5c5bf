"""EMP on AWS. `python app.py` writes the CloudFormation of every environment into cdk.out and fails on a violated rule that waivers.py does not explain."""
from pathlib import Path
from aws_cdk import App, Environment as Target, Tags, Validations
from cdk_nag import AwsSolutionsChecks
from cluster import Cluster
from data import Data
from edge import Edge
from environment import environments
from network import Network
from waivers import waive
from watch import Watch


FLAGS = {"@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy": True, "@aws-cdk/aws-iam:minimizePolicies": True, "@aws-cdk/core:enablePartitionLiterals": True,
         "@aws-cdk/aws-rds:preventRenderingDeprecatedCredentials": True}


def build(app: App) -> dict:
    "The stacks by environment and name; each knows its account and region."
    stacks = {}
    for emp in environments().values():
        here = dict(env=Target(account=emp.account, region=emp.region), termination_protection=emp.keep_data)
        network = Network(app, emp, **here)
        data = Data(app, emp, network, **here)
        stacks[emp.name] = {"network": network, "data": data, "cluster": Cluster(app, emp, network, data, **here), "watch": Watch(app, emp, network, data, **here),
                            "edge": Edge(app, emp, env=Target(account=emp.account, region="us-east-1"), termination_protection=emp.keep_data)}
        waive(emp, stacks[emp.name])
        for stack in stacks[emp.name].values():
            for tag, value in (("app", "emp"), ("environment", emp.name)): Tags.of(stack).add(tag, value)
    return stacks


def main():
    app = App(context=FLAGS, outdir=str(Path(__file__).with_name("cdk.out")))
    build(app)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()


if __name__ == "__main__": main()
