"""The Kubernetes cluster: managed nodes that cannot reach the metadata server from a pod, and a role for each workload that needs one."""
import json
from aws_cdk import CfnOutput, Stack, Tags, aws_ec2 as ec2, aws_eks_v2 as eks, aws_iam as iam, aws_logs as logs
from constructs import Construct
from data import Data
from environment import Environment
from network import Network
from policies import AUTOSCALER, LOAD_BALANCER

VERSION = eks.KubernetesVersion.of("1.35")


class Cluster(Stack):
    "EKS, its node group and add-ons, and pod identities."
    def __init__(self, scope: Construct, emp: Environment, network: Network, data: Data, **kwargs):
        super().__init__(scope, f"emp-{emp.name}-cluster", **kwargs)
        logs.LogGroup(self, "ControlPlane", log_group_name=f"/aws/eks/emp-{emp.name}/cluster", retention=logs.RetentionDays.ONE_YEAR, encryption_key=network.key, removal_policy=emp.removal)
        self.cluster = eks.Cluster(self, "Cluster", cluster_name=f"emp-{emp.name}", version=VERSION, vpc=network.vpc, vpc_subnets=[ec2.SubnetSelection(subnet_group_name="nodes")],
                                   default_capacity_type=eks.DefaultCapacityType.NODEGROUP, default_capacity=0, secrets_encryption_key=network.key,
                                   endpoint_access=eks.EndpointAccess.PUBLIC_AND_PRIVATE.only_from(*emp.operators), bootstrap_cluster_creator_admin_permissions=True,
                                   cluster_logging=list(eks.ClusterLoggingTypes))
        nodes = self._nodes(emp, network)
        self._addons(nodes)
        self._identities(emp, network, data)
        CfnOutput(self, "Kubeconfig", value=f"aws eks update-kubeconfig --region {emp.region} --name {self.cluster.cluster_name}")

    def _nodes(self, emp: Environment, network: Network) -> eks.Nodegroup:
        "The node group: encrypted disks, IMDSv2 with one hop, so that no pod reaches the metadata server."
        disk = ec2.BlockDevice(device_name="/dev/xvda", volume=ec2.BlockDeviceVolume.ebs(emp.nodes.disk_gb, encrypted=True, volume_type=ec2.EbsDeviceVolumeType.GP3))
        template = ec2.LaunchTemplate(self, "Node", block_devices=[disk], require_imdsv2=True, http_put_response_hop_limit=1, http_tokens=ec2.LaunchTemplateHttpTokens.REQUIRED)
        role = iam.Role(self, "NodeRole", assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
                        managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(name) for name in ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonSSMManagedInstanceCore")])
        group = eks.Nodegroup(self, "Nodes", cluster=self.cluster, node_role=role, instance_types=[ec2.InstanceType(emp.nodes.type)], min_size=emp.nodes.least, max_size=emp.nodes.most,
                              desired_size=emp.nodes.least, ami_type=eks.NodegroupAmiType.AL2023_X86_64_STANDARD, subnets=ec2.SubnetSelection(subnet_group_name="nodes"),
                              launch_template_spec=eks.LaunchTemplateSpec(id=template.launch_template_id, version=template.latest_version_number))
        for tag, value in (("enabled", "true"), (f"emp-{emp.name}", "owned")): Tags.of(group).add(f"k8s.io/cluster-autoscaler/{tag}", value)
        return group

    def _addons(self, nodes: eks.Nodegroup):
        "EKS add-ons. The network add-on enforces NetworkPolicies; the drivers wait for nodes."
        settings = {"vpc-cni": {"enableNetworkPolicy": "true"}}
        for name in ("vpc-cni", "kube-proxy", "eks-pod-identity-agent", "coredns", "metrics-server", "aws-ebs-csi-driver", "aws-efs-csi-driver", "amazon-cloudwatch-observability"):
            addon = eks.CfnAddon(self, f"Addon-{name}", cluster_name=self.cluster.cluster_name, addon_name=name, resolve_conflicts="OVERWRITE",
                                 configuration_values=json.dumps(settings[name]) if name in settings else None)
            if name not in ("vpc-cni", "kube-proxy", "eks-pod-identity-agent"): addon.node.add_dependency(nodes)
            else: nodes.node.add_dependency(addon)

    def _identities(self, emp: Environment, network: Network, data: Data):
        "One role for each service account that calls AWS; nothing else in the cluster may."
        for account in ("emp-service", "emp-jobs"):
            role = self._identity("emp", account)
            role.attach_inline_policy(iam.Policy(self, f"Runs-{account}", statements=[
                iam.PolicyStatement(actions=["s3:ListBucket"], resources=[f"arn:aws:s3:::{emp.bucket}"]),
                iam.PolicyStatement(actions=["s3:GetObject"] + (["s3:PutObject", "s3:DeleteObject"] if account == "emp-jobs" else []), resources=[f"arn:aws:s3:::{emp.bucket}/runs/*"]),
                iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[network.key.key_arn])]))
        self._identity("external-secrets", "external-secrets", [
            iam.PolicyStatement(actions=["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"], resources=[secret.secret_full_arn or secret.secret_arn for secret in data.secrets]),
            iam.PolicyStatement(actions=["kms:Decrypt"], resources=[network.key.key_arn])])
        self._identity("kube-system", "aws-load-balancer-controller", [iam.PolicyStatement.from_json(s) for s in LOAD_BALANCER])
        self._identity("kube-system", "cluster-autoscaler", [iam.PolicyStatement.from_json(s) for s in AUTOSCALER])
        self._identity("kube-system", "ebs-csi-controller-sa", managed=["service-role/AmazonEBSCSIDriverPolicy"])
        self._identity("kube-system", "efs-csi-controller-sa", managed=["service-role/AmazonEFSCSIDriverPolicy"])
        self._identity("kube-system", "aws-node", managed=["AmazonEKS_CNI_Policy"])
        self._identity("amazon-cloudwatch", "cloudwatch-agent", managed=["CloudWatchAgentServerPolicy"])

    def _identity(self, namespace: str, account: str, statements=(), managed=()) -> iam.Role:
        "The role that pods of a service account take on through EKS Pod Identity."
        agent = iam.ServicePrincipal("pods.eks.amazonaws.com").with_session_tags()
        role = iam.Role(self, f"Role-{account}", assumed_by=agent, managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(name) for name in managed])
        if statements: iam.Policy(self, f"Policy-{account}", roles=[role], statements=list(statements))
        eks.CfnPodIdentityAssociation(self, f"Pods-{account}", cluster_name=self.cluster.cluster_name, namespace=namespace, service_account=account, role_arn=role.role_arn)
        return role
