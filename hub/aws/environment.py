"""One deployment of EMP, read from environments.yaml and refused when a key is missing, unknown or of the wrong type."""
from dataclasses import dataclass, fields
from pathlib import Path
import yaml
from aws_cdk import RemovalPolicy


@dataclass(frozen=True, slots=True)
class Nodes:
    "The node group of the cluster."
    type: str
    least: int
    most: int
    disk_gb: int


@dataclass(frozen=True, slots=True)
class Database:
    "PostgreSQL."
    type: str
    storage_gb: int
    multi_az: bool
    replicas: int
    backup_days: int


@dataclass(frozen=True, slots=True)
class Cache:
    "Redis."
    type: str
    nodes: int


@dataclass(frozen=True, slots=True)
class Environment:
    "Everything that differs between staging and prod."
    name: str
    account: str
    region: str
    domain: str
    zone_id: str
    operators: list
    cloudfront_prefix_list: str
    alarm_email: str
    nat_gateways: int
    nodes: Nodes
    database: Database
    cache: Cache
    keep_data: bool

    @property
    def bucket(self) -> str:
        "Name of the bucket of runs, which is unique in the world by the account."
        return f"emp-{self.name}-runs-{self.account}"

    @property
    def removal(self) -> RemovalPolicy:
        "What `cdk destroy` does to data."
        return RemovalPolicy.RETAIN if self.keep_data else RemovalPolicy.DESTROY


def _typed(kind, given: dict, where: str):
    "`given` as the dataclass `kind`; ValueError names a key that is missing, unknown or ill-typed."
    known = {f.name: f.type for f in fields(kind)}
    if unknown := sorted(given.keys() - known.keys()): raise ValueError(f"{where} knows {', '.join(known)}, got {', '.join(unknown)}; correct environments.yaml")
    if missing := sorted(known.keys() - given.keys()): raise ValueError(f"{where} needs {', '.join(missing)}; add it to environments.yaml")
    for name, wanted in known.items():
        if type(given[name]) is not wanted and not isinstance(given[name], dict):
            raise ValueError(f"{where}.{name} must be {wanted.__name__}, got {given[name]!r}; correct environments.yaml")
    return kind(**{name: _typed(known[name], value, f"{where}.{name}") if isinstance(value, dict) else value for name, value in given.items()})


FILE = Path(__file__).with_name("environments.yaml")


def environments(path: Path = FILE) -> dict[str, Environment]:
    "Environments by name."
    return {name: _typed(Environment, {"name": name, **given}, name) for name, given in yaml.safe_load(path.read_text()).items()}
