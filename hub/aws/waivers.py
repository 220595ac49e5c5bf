"""Rules that EMP does not follow, each with the reason. Everything else that cdk-nag, cfn-lint and checkov ask is done."""
from aws_cdk import Acknowledgment, Stack, Validations
from environment import Environment

STAGING = "Staging may be down for the minutes that a new instance takes, and is torn down at will"
MANAGED = "A policy that AWS maintains for exactly this role: it grows with the add-on, a copy of ours would fall behind"
OF_AWS = {
    "data": ("service-role/AmazonRDSEnhancedMonitoringRole", "service-role/AWSBackupServiceRolePolicyForBackup", "service-role/AWSBackupServiceRolePolicyForRestores"),
    "cluster": ("AmazonEKSClusterPolicy", "AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonSSMManagedInstanceCore", "AmazonEKS_CNI_Policy", "CloudWatchAgentServerPolicy",
                "service-role/AmazonEBSCSIDriverPolicy", "service-role/AmazonEFSCSIDriverPolicy"),
}
WILD = {
    "*": "Two controllers look at everything and change only what carries the tag of their own cluster",
    "arn:aws:ec2:*:*:security-group/*": "The load balancer controller makes the groups it may change; the tag of its cluster is asked for",
    "arn:aws:ec2:*:*:vpc/*": "A group is made in a VPC; the group itself is held by the tag of its cluster",
    "arn:aws:elasticloadbalancing:*:*:loadbalancer/*": "Tags are allowed together with the making, and only the tag of its own cluster",
    "arn:aws:elasticloadbalancing:*:*:targetgroup/*/*": "Tags are allowed together with the making, and only the tag of its own cluster",
    "arn:aws:s3:::{bucket}/runs/*": "Names of runs are not known beforehand; jobs and service are held to one prefix of one bucket",
}
OTHERS = {
    ("data", "AwsSolutions-SMG4"): "ElastiCache has no rotation of its own; the token is rotated by the runbook, old and new valid side by side",
    ("edge", "AwsSolutions-CFR1"): "The team travels; who may come in is decided by sign-in, not by country",
}
REPLICA = "A replica is encrypted as its source is and listens where it does, and CloudFormation refuses that it says so"
ONLY_PROD = ("AwsSolutions-RDS2", "AwsSolutions-RDS11")
ONLY_STAGING = ("AwsSolutions-RDS3", "AwsSolutions-RDS10", "AwsSolutions-AEC4")
CHECKOV = {
    "AccessLog": ("CKV_AWS_18", "It receives the access log; a log of the log would never end"),
    "Replica1": ("CKV_AWS_16", REPLICA),
}


def waive(emp: Environment, parts: dict[str, Stack]):
    "Write the waivers into the stacks of one environment."
    told = [(part, f"AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{name}]", MANAGED) for part, names in OF_AWS.items() for name in names]
    told += [("cluster", f"AwsSolutions-IAM5[Resource::{what.format(bucket=emp.bucket)}]", reason) for what, reason in WILD.items()]
    told += [(part, rule, reason) for (part, rule), reason in OTHERS.items()] 
    told += [("data", rule, REPLICA) for rule in ONLY_PROD if emp.database.replicas] + [("data", rule, STAGING) for rule in ONLY_STAGING if not emp.keep_data]
    for part, rule, reason in told: Validations.of(parts[part]).acknowledge(Acknowledgment(id=f"AwsSolutions::{rule}", reason=reason))
    skipped = CHECKOV if emp.keep_data else CHECKOV | {"PostgreSQL": ("CKV_AWS_157", STAGING)}
    for name, (rule, reason) in skipped.items():
        part = parts["data"].node.try_find_child(name)
        if part is not None: part.node.default_child.add_metadata("checkov", {"skip": [{"id": rule, "comment": reason}]})
