"""Where everything lives: three kinds of subnets in three zones, one key, and the door that CloudFront comes through."""
from aws_cdk import Stack, aws_ec2 as ec2, aws_iam as iam, aws_kms as kms, aws_logs as logs
from constructs import Construct
from environment import Environment


class Network(Stack):
    "VPC with public subnets for load balancers, private ones for nodes, isolated ones for data; flow logs; the key of the environment."
    def __init__(self, scope: Construct, emp: Environment, **kwargs):
        super().__init__(scope, f"emp-{emp.name}-network", **kwargs)
        self.key = kms.Key(self, "Key", alias=f"emp-{emp.name}", enable_key_rotation=True, removal_policy=emp.removal, description=f"Encrypts what EMP {emp.name} stores")
        self.key.add_to_resource_policy(iam.PolicyStatement(
            actions=["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"], resources=["*"],
            principals=[iam.ServicePrincipal(f"logs.{emp.region}.amazonaws.com")],
            conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:{emp.region}:{emp.account}:*"}}))
        self.key.add_to_resource_policy(iam.PolicyStatement(
            actions=["kms:Decrypt", "kms:GenerateDataKey*"], resources=["*"], principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            conditions={"StringEquals": {"aws:SourceAccount": emp.account}}))
        subnet = lambda name, kind, mask: ec2.SubnetConfiguration(name=name, subnet_type=kind, cidr_mask=mask)
        self.vpc = ec2.Vpc(self, "Vpc", ip_addresses=ec2.IpAddresses.cidr("10.40.0.0/16"), availability_zones=[f"{emp.region}{zone}" for zone in "abc"], nat_gateways=emp.nat_gateways,
                           subnet_configuration=[subnet("public", ec2.SubnetType.PUBLIC, 24), subnet("nodes", ec2.SubnetType.PRIVATE_WITH_EGRESS, 20), subnet("data", ec2.SubnetType.PRIVATE_ISOLATED, 24)],
                           gateway_endpoints={"S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3)}, restrict_default_security_group=False)       # closing it needs a function of its own; nothing uses it
        for part in self.vpc.public_subnets: part.node.default_child.map_public_ip_on_launch = False
        flows = logs.LogGroup(self, "Flows", retention=logs.RetentionDays.ONE_YEAR, encryption_key=self.key, removal_policy=emp.removal)
        self.vpc.add_flow_log("FlowLog", destination=ec2.FlowLogDestination.to_cloud_watch_logs(flows))
        self.door = ec2.SecurityGroup(self, "Door", vpc=self.vpc, allow_all_outbound=False, description="Load balancer of the hub: HTTPS from CloudFront only")
        self.door.add_ingress_rule(ec2.Peer.prefix_list(emp.cloudfront_prefix_list), ec2.Port.tcp(443), "CloudFront")
        self.door.add_egress_rule(ec2.Peer.ipv4(self.vpc.vpc_cidr_block), ec2.Port.tcp_range(8000, 8443), "Pods of the hub and of the service")
