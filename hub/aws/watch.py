"""What wakes somebody up before a user notices: alarms on the managed parts. The cluster watches itself (hub/monitoring)."""
from aws_cdk import Duration, Stack, aws_cloudwatch as cloudwatch, aws_cloudwatch_actions as actions, aws_sns as sns, aws_sns_subscriptions as subscriptions
from constructs import Construct
from data import Data
from environment import Environment
from network import Network


class Watch(Stack):
    "Alarms of the databases and the cache, one topic, one dashboard."
    def __init__(self, scope: Construct, emp: Environment, network: Network, data: Data, **kwargs):
        super().__init__(scope, f"emp-{emp.name}-watch", **kwargs)
        topic = sns.Topic(self, "Alarms", master_key=network.key, enforce_ssl=True)
        topic.add_subscription(subscriptions.EmailSubscription(emp.alarm_email))
        redis = lambda name: cloudwatch.Metric(namespace="AWS/ElastiCache", metric_name=name, statistic="Maximum", period=Duration.minutes(5), dimensions_map={"ReplicationGroupId": data.redis.ref})
        primary, gigabyte, above, below = data.databases[0], 1024 ** 3, cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD, cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD
        alarms = [("DatabaseBusy", primary.metric_cpu_utilization(), above, 80), ("DatabaseFull", primary.metric_free_storage_space(), below, .1 * emp.database.storage_gb * gigabyte),
                  ("DatabaseMemory", primary.metric_freeable_memory(), below, .25 * gigabyte), ("DatabaseConnections", primary.metric_database_connections(), above, 200),
                  ("CacheMemory", redis("DatabaseMemoryUsagePercentage"), above, 80), ("CacheEvicts", redis("Evictions"), above, 1000)]
        alarms += [(f"Replica{k}Lags", replica.metric("ReplicaLag"), above, 30) for k, replica in enumerate(data.databases[1:], 1)]
        for name, metric, way, limit in alarms:
            metric.create_alarm(self, name, threshold=limit, comparison_operator=way, evaluation_periods=3, treat_missing_data=cloudwatch.TreatMissingData.BREACHING).add_alarm_action(actions.SnsAction(topic))
        board = cloudwatch.Dashboard(self, "Board", dashboard_name=f"emp-{emp.name}")
        for k in range(0, len(alarms), 3): board.add_widgets(*(cloudwatch.GraphWidget(title=name, left=[metric]) for name, metric, _, _ in alarms[k:k + 3]))
