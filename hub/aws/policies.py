"""What two controllers in the cluster may do in AWS, as their projects document it."""

TAGGED = {"StringEquals": {"aws:ResourceTag/elbv2.k8s.aws/cluster": "${aws:PrincipalTag/eks-cluster-name}"}}
MADE = {"StringEquals": {"aws:RequestTag/elbv2.k8s.aws/cluster": "${aws:PrincipalTag/eks-cluster-name}"}}


def _allow(actions: str, resources="*", condition=None) -> dict:
    "A statement that allows actions, separated by blanks."
    return {"Effect": "Allow", "Action": actions.split(), "Resource": resources, **({"Condition": condition} if condition else {})}


# kubernetes-sigs/aws-load-balancer-controller: it may look at everything, and change what carries the tag of its own cluster
LOAD_BALANCER = [
    _allow("ec2:DescribeAccountAttributes ec2:DescribeAddresses ec2:DescribeAvailabilityZones ec2:DescribeCoipPools ec2:DescribeInstances ec2:DescribeInternetGateways ec2:DescribeIpamPools "
           "ec2:DescribeNetworkInterfaces ec2:DescribeRouteTables ec2:DescribeSecurityGroups ec2:DescribeSubnets ec2:DescribeTags ec2:DescribeVpcPeeringConnections ec2:DescribeVpcs ec2:GetCoipPoolUsage "
           "ec2:GetSecurityGroupsForVpc elasticloadbalancing:DescribeCapacityReservation elasticloadbalancing:DescribeListenerAttributes elasticloadbalancing:DescribeListenerCertificates "
           "elasticloadbalancing:DescribeListeners elasticloadbalancing:DescribeLoadBalancerAttributes elasticloadbalancing:DescribeLoadBalancers elasticloadbalancing:DescribeRules "
           "elasticloadbalancing:DescribeSSLPolicies elasticloadbalancing:DescribeTags elasticloadbalancing:DescribeTargetGroupAttributes elasticloadbalancing:DescribeTargetGroups "
           "elasticloadbalancing:DescribeTargetHealth elasticloadbalancing:DescribeTrustStores acm:DescribeCertificate acm:ListCertificates wafv2:GetWebACL wafv2:GetWebACLForResource"),
    _allow("iam:CreateServiceLinkedRole", condition={"StringEquals": {"iam:AWSServiceName": "elasticloadbalancing.amazonaws.com"}}),
    _allow("ec2:CreateSecurityGroup", "arn:aws:ec2:*:*:vpc/*"),
    _allow("ec2:CreateSecurityGroup ec2:CreateTags", "arn:aws:ec2:*:*:security-group/*", {**MADE, "Null": {"aws:RequestTag/elbv2.k8s.aws/cluster": "false"}}),
    _allow("ec2:AuthorizeSecurityGroupIngress ec2:RevokeSecurityGroupIngress ec2:DeleteSecurityGroup ec2:CreateTags ec2:DeleteTags", "arn:aws:ec2:*:*:security-group/*", TAGGED),
    _allow("elasticloadbalancing:CreateLoadBalancer elasticloadbalancing:CreateTargetGroup", condition=MADE),
    _allow("elasticloadbalancing:AddTags", ["arn:aws:elasticloadbalancing:*:*:loadbalancer/*", "arn:aws:elasticloadbalancing:*:*:targetgroup/*/*"], MADE),
    _allow("elasticloadbalancing:AddTags elasticloadbalancing:RemoveTags elasticloadbalancing:CreateListener elasticloadbalancing:CreateRule elasticloadbalancing:DeleteListener elasticloadbalancing:DeleteRule "
           "elasticloadbalancing:DeleteLoadBalancer elasticloadbalancing:DeleteTargetGroup elasticloadbalancing:ModifyListener elasticloadbalancing:ModifyListenerAttributes "
           "elasticloadbalancing:ModifyLoadBalancerAttributes elasticloadbalancing:ModifyRule elasticloadbalancing:ModifyTargetGroup elasticloadbalancing:ModifyTargetGroupAttributes "
           "elasticloadbalancing:AddListenerCertificates elasticloadbalancing:RemoveListenerCertificates elasticloadbalancing:RegisterTargets elasticloadbalancing:DeregisterTargets "
           "elasticloadbalancing:SetIpAddressType elasticloadbalancing:SetRulePriorities elasticloadbalancing:SetSecurityGroups elasticloadbalancing:SetSubnets", condition=TAGGED),
]

# kubernetes/autoscaler: it may resize the node groups of its own cluster
AUTOSCALER = [
    _allow("autoscaling:DescribeAutoScalingGroups autoscaling:DescribeAutoScalingInstances autoscaling:DescribeLaunchConfigurations autoscaling:DescribeScalingActivities ec2:DescribeImages "
           "ec2:DescribeInstanceTypes ec2:DescribeLaunchTemplateVersions ec2:GetInstanceTypesFromInstanceRequirements eks:DescribeNodegroup"),
    _allow("autoscaling:SetDesiredCapacity autoscaling:TerminateInstanceInAutoScalingGroup", condition={"StringEquals": {"aws:ResourceTag/eks:cluster-name": "${aws:PrincipalTag/eks-cluster-name}"}}),
]
