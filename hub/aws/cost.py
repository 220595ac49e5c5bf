"""What an environment costs a month, by part, from prices.yaml. `python cost.py` prints the table of every environment."""
from pathlib import Path
import yaml
from environment import Environment, environments

HOURS = 730


def monthly(emp: Environment, prices: dict) -> dict[str, tuple[float, float]]:
    "USD a month by part, with the fewest and with the most nodes."
    hour, month, assumed = prices["hour"], prices["month"], prices["assumed"]
    twice, bases = 1 + emp.database.multi_az, 1 + emp.database.replicas
    node = HOURS * hour[emp.nodes.type] + emp.nodes.disk_gb * month["gp3_gb"]
    fixed = {"control plane": HOURS * hour["eks"], "PostgreSQL": bases * twice * (HOURS * hour[emp.database.type] + emp.database.storage_gb * month["rds_gp3_gb"]),
             "Redis": emp.cache.nodes * HOURS * hour[emp.cache.type], "network": emp.nat_gateways * HOURS * hour["nat"] + assumed["nat_gb"] * assumed["nat_gb_price"] + HOURS * hour["load_balancer"],
             "files and objects": assumed["efs_gb"] * month["efs_gb"] + assumed["s3_gb"] * month["s3_gb"],
             "edge": month["firewall"] + assumed["cloudfront_gb"] * assumed["cloudfront_gb_price"], "keys, secrets, alarms": month["kms_key"] + 2 * month["secret"] + 7 * month["alarm"]}
    return {"nodes": (emp.nodes.least * node, emp.nodes.most * node), **{part: (value, value) for part, value in fixed.items()}}


def table(emp: Environment, prices: dict) -> str:
    "The costs as lines of Markdown."
    parts = monthly(emp, prices)
    rows = [*parts.items(), ("**all**", tuple(map(sum, zip(*parts.values()))))]
    return "\n".join([f"| {emp.name}, USD a month | {emp.nodes.least} nodes | {emp.nodes.most} nodes |", "|---|---:|---:|", *(f"| {part} | {low:,.0f} | {high:,.0f} |" for part, (low, high) in rows)])


def main():
    prices = yaml.safe_load(Path(__file__).with_name("prices.yaml").read_text())
    print("\n\n".join(table(emp, prices) for emp in environments().values()))


if __name__ == "__main__": main()
