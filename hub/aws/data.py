"""What must not be lost: PostgreSQL, Redis, files, objects, and their backups. Everything is encrypted with the key of the environment."""
from aws_cdk import (CfnOutput, Duration, SecretValue, Stack, Tags, aws_backup as backup, aws_ec2 as ec2, aws_efs as efs, aws_elasticache as elasticache, aws_events as events,
                     aws_logs as logs, aws_rds as rds, aws_s3 as s3, aws_secretsmanager as secrets)
from constructs import Construct
from environment import Environment
from network import Network

ISOLATED = ec2.SubnetSelection(subnet_group_name="data")
POSTGRES = rds.DatabaseInstanceEngine.postgres(version=rds.PostgresEngineVersion.of("17.6", "17"))
PORT = 5433                     # not the first that a scanner tries


class Data(Stack):
    "Databases and stores in isolated subnets, reachable from the nodes only."
    def __init__(self, scope: Construct, emp: Environment, network: Network, **kwargs):
        super().__init__(scope, f"emp-{emp.name}-data", **kwargs)
        self.network, self.emp = network, emp
        self.secrets = [self._postgres(), self._redis()]
        self.bucket, self.files = self._objects(), self._files()
        self._backups()

    def _wall(self, name: str, port: int) -> ec2.SecurityGroup:
        "A security group that lets the subnets of the nodes in, on one port."
        wall = ec2.SecurityGroup(self, f"{name}Wall", vpc=self.network.vpc, allow_all_outbound=False, description=f"{name}: from the nodes only")
        for subnet in self.network.vpc.select_subnets(subnet_group_name="nodes").subnets: wall.add_ingress_rule(ec2.Peer.ipv4(subnet.ipv4_cidr_block), ec2.Port.tcp(port), "Nodes")
        return wall

    def _postgres(self) -> secrets.ISecret:
        "PostgreSQL with its replicas; TLS is forced, the password is made and rotated by Secrets Manager."
        emp, key, wall = self.emp, self.network.key, self._wall("PostgreSQL", PORT)
        shared = dict(vpc=self.network.vpc, vpc_subnets=ISOLATED, security_groups=[wall], instance_type=ec2.InstanceType(emp.database.type.removeprefix("db.")), port=PORT,
                      deletion_protection=emp.keep_data, removal_policy=emp.removal, enable_performance_insights=True, performance_insight_encryption_key=key, monitoring_interval=Duration.minutes(1),
                      auto_minor_version_upgrade=True, iam_authentication=True, cloudwatch_logs_exports=["postgresql", "upgrade"], copy_tags_to_snapshot=True,
                      parameter_group=rds.ParameterGroup(self, "PostgreSQLSettings", engine=POSTGRES, parameters={"rds.force_ssl": "1", "log_statement": "ddl", "log_min_duration_statement": "1000"}))
        primary = rds.DatabaseInstance(self, "PostgreSQL", engine=POSTGRES, database_name="emp", storage_encryption_key=key, multi_az=emp.database.multi_az, allocated_storage=emp.database.storage_gb,
                                       max_allocated_storage=5 * emp.database.storage_gb, storage_type=rds.StorageType.GP3, backup_retention=Duration.days(emp.database.backup_days),
                                       credentials=rds.Credentials.from_generated_secret("emp", secret_name=f"emp/{emp.name}/postgresql", encryption_key=key), **shared)
        primary.add_rotation_single_user(automatically_after=Duration.days(30))
        self.databases = [primary]
        for k in range(emp.database.replicas):
            replica = rds.DatabaseInstanceReadReplica(self, f"Replica{k + 1}", source_database_instance=primary, multi_az=emp.database.multi_az, **shared)
            replica.node.default_child.add_property_deletion_override("StorageEncrypted")       # it has what its source has, and may not say so
            self.databases.append(replica)
        for name, base in zip(("Writer", "Reader"), (primary, self.databases[-1])): CfnOutput(self, name, value=base.db_instance_endpoint_address)
        return primary.secret

    def _redis(self) -> secrets.ISecret:
        "Redis with encryption in transit and at rest and a generated token."
        emp, nodes = self.emp, self.emp.cache.nodes
        token = secrets.Secret(self, "RedisToken", secret_name=f"emp/{emp.name}/redis", encryption_key=self.network.key, removal_policy=emp.removal,
                               generate_secret_string=secrets.SecretStringGenerator(exclude_punctuation=True, password_length=64))
        subnets = elasticache.CfnSubnetGroup(self, "RedisSubnets", description="Isolated subnets", subnet_ids=self.network.vpc.select_subnets(subnet_group_name="data").subnet_ids)
        log = logs.LogGroup(self, "RedisLog", retention=logs.RetentionDays.ONE_YEAR, encryption_key=self.network.key, removal_policy=emp.removal)
        written = elasticache.CfnReplicationGroup.LogDeliveryConfigurationRequestProperty(
            log_type="engine-log", log_format="json", destination_type="cloudwatch-logs",
            destination_details=elasticache.CfnReplicationGroup.DestinationDetailsProperty(cloud_watch_logs_details=elasticache.CfnReplicationGroup.CloudWatchLogsDestinationDetailsProperty(log_group=log.log_group_name)))
        self.redis = elasticache.CfnReplicationGroup(
            self, "Redis", replication_group_description=f"EMP {emp.name}", engine="redis", engine_version="7.1", cache_node_type=emp.cache.type, num_cache_clusters=nodes, automatic_failover_enabled=nodes > 1,
            multi_az_enabled=nodes > 1, transit_encryption_enabled=True, at_rest_encryption_enabled=True, kms_key_id=self.network.key.key_arn, port=6380, snapshot_retention_limit=emp.database.backup_days,
            auth_token=SecretValue.secrets_manager(token.secret_arn).unsafe_unwrap(), cache_subnet_group_name=subnets.ref, security_group_ids=[self._wall("Redis", 6380).security_group_id],
            auto_minor_version_upgrade=True, log_delivery_configurations=[written])
        CfnOutput(self, "Cache", value=self.redis.attr_primary_end_point_address)
        return token

    def _objects(self) -> s3.Bucket:
        "Runs and their outputs: versioned, private, TLS only, every access logged."
        emp = self.emp
        common = dict(block_public_access=s3.BlockPublicAccess.BLOCK_ALL, enforce_ssl=True, versioned=True, removal_policy=emp.removal, object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED)
        log = s3.Bucket(self, "AccessLog", encryption=s3.BucketEncryption.S3_MANAGED, lifecycle_rules=[s3.LifecycleRule(expiration=Duration.days(365), noncurrent_version_expiration=Duration.days(30),
                        abort_incomplete_multipart_upload_after=Duration.days(7))], **common)
        return s3.Bucket(self, "Runs", bucket_name=emp.bucket, encryption=s3.BucketEncryption.KMS, encryption_key=self.network.key, bucket_key_enabled=True, server_access_logs_bucket=log, server_access_logs_prefix="runs/",
                         lifecycle_rules=[s3.LifecycleRule(noncurrent_version_expiration=Duration.days(90), abort_incomplete_multipart_upload_after=Duration.days(7),
                                                           transitions=[s3.Transition(storage_class=s3.StorageClass.INFREQUENT_ACCESS, transition_after=Duration.days(90))])], **common)

    def _files(self) -> efs.FileSystem:
        "Homes and shared data."
        files = efs.FileSystem(self, "Files", vpc=self.network.vpc, vpc_subnets=ISOLATED, encrypted=True, kms_key=self.network.key, security_group=self._wall("EFS", 2049), removal_policy=self.emp.removal,
                               performance_mode=efs.PerformanceMode.GENERAL_PURPOSE, throughput_mode=efs.ThroughputMode.ELASTIC, lifecycle_policy=efs.LifecyclePolicy.AFTER_30_DAYS)
        CfnOutput(self, "FileSystem", value=files.file_system_id)
        return files

    def _backups(self):
        "Every day at 02:00 UTC, kept as long as the database's own backups, in a vault of its own."
        emp = self.emp
        vault = backup.BackupVault(self, "Vault", encryption_key=self.network.key, removal_policy=emp.removal)
        plan = backup.BackupPlan(self, "Backups", backup_vault=vault, backup_plan_rules=[backup.BackupPlanRule(
            rule_name="daily", schedule_expression=events.Schedule.cron(hour="2", minute="0"), start_window=Duration.hours(1), completion_window=Duration.hours(4), delete_after=Duration.days(emp.database.backup_days))])
        for kept in (self.databases[0], self.bucket, self.files): Tags.of(kept).add("emp:backup", "daily")
        plan.add_selection("Tagged", resources=[backup.BackupResource.from_tag("emp:backup", "daily")], allow_restores=True)
