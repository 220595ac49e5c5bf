"""What the internet sees: CloudFront with a firewall before the load balancer that the hub's ingress makes. Static files are cached, nothing else is."""
from aws_cdk import Stack, aws_certificatemanager as acm, aws_cloudfront as cloudfront, aws_cloudfront_origins as origins, aws_route53 as route53, aws_route53_targets as targets, aws_s3 as s3, aws_wafv2 as waf
from constructs import Construct
from environment import Environment

STATIC = ("/hub/static/*", "/user/*/static/*", "/services/emp/static/*")
MANAGED_RULES = ("AWSManagedRulesAmazonIpReputationList", "AWSManagedRulesKnownBadInputsRuleSet")


class Edge(Stack):
    "Certificates, distribution, firewall, names. In us-east-1, where CloudFront looks for them."
    def __init__(self, scope: Construct, emp: Environment, **kwargs):
        super().__init__(scope, f"emp-{emp.name}-edge", **kwargs)
        zone = route53.HostedZone.from_hosted_zone_attributes(self, "Zone", hosted_zone_id=emp.zone_id, zone_name=emp.domain)
        certificate = acm.Certificate(self, "Certificate", domain_name=emp.domain, subject_alternative_names=[f"origin.{emp.domain}"], validation=acm.CertificateValidation.from_dns(zone))
        log = s3.Bucket(self, "Log", block_public_access=s3.BlockPublicAccess.BLOCK_ALL, enforce_ssl=True, versioned=True, encryption=s3.BucketEncryption.S3_MANAGED, removal_policy=emp.removal,
                        object_ownership=s3.ObjectOwnership.OBJECT_WRITER, server_access_logs_prefix="self/")
        origin = origins.HttpOrigin(f"origin.{emp.domain}", protocol_policy=cloudfront.OriginProtocolPolicy.HTTPS_ONLY, origin_ssl_protocols=[cloudfront.OriginSslPolicy.TLS_V1_2])
        same = dict(origin=origin, viewer_protocol_policy=cloudfront.ViewerProtocolPolicy.REDIRECT_TO_HTTPS, response_headers_policy=cloudfront.ResponseHeadersPolicy.SECURITY_HEADERS)
        cached = cloudfront.BehaviorOptions(cache_policy=cloudfront.CachePolicy.CACHING_OPTIMIZED, compress=True, **same)
        passed = cloudfront.BehaviorOptions(cache_policy=cloudfront.CachePolicy.CACHING_DISABLED, origin_request_policy=cloudfront.OriginRequestPolicy.ALL_VIEWER,
                                            allowed_methods=cloudfront.AllowedMethods.ALLOW_ALL, **same)
        front = cloudfront.Distribution(self, "Front", default_behavior=passed, additional_behaviors={path: cached for path in STATIC}, domain_names=[emp.domain], certificate=certificate,
                                        minimum_protocol_version=cloudfront.SecurityPolicyProtocol.TLS_V1_2_2021, http_version=cloudfront.HttpVersion.HTTP2_AND_3, enable_logging=True, log_bucket=log,
                                        web_acl_id=self._firewall(emp).attr_arn)
        for kind in (route53.ARecord, route53.AaaaRecord): kind(self, kind.__name__, zone=zone, target=route53.RecordTarget.from_alias(targets.CloudFrontTarget(front)))

    def _firewall(self, emp: Environment) -> waf.CfnWebACL:
        "Managed rules, and at most 2 000 requests in five minutes from one address."
        seen = lambda name: waf.CfnWebACL.VisibilityConfigProperty(cloud_watch_metrics_enabled=True, sampled_requests_enabled=True, metric_name=name)
        rules = [waf.CfnWebACL.RuleProperty(name=name, priority=k, override_action=waf.CfnWebACL.OverrideActionProperty(none={}), visibility_config=seen(name),
                                            statement=waf.CfnWebACL.StatementProperty(managed_rule_group_statement=waf.CfnWebACL.ManagedRuleGroupStatementProperty(vendor_name="AWS", name=name)))
                 for k, name in enumerate(MANAGED_RULES)]
        rules.append(waf.CfnWebACL.RuleProperty(name="rate", priority=len(rules), action=waf.CfnWebACL.RuleActionProperty(block={}), visibility_config=seen("rate"),
                                                statement=waf.CfnWebACL.StatementProperty(rate_based_statement=waf.CfnWebACL.RateBasedStatementProperty(limit=2000, aggregate_key_type="IP"))))
        return waf.CfnWebACL(self, "Firewall", scope="CLOUDFRONT", default_action=waf.CfnWebACL.DefaultActionProperty(allow={}), visibility_config=seen(f"emp-{emp.name}"), rules=rules)
