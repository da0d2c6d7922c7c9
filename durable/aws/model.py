"""What botocore has to know of the service: two operations, and where AWS's partitions are.

botocore would load 1.3 MB of endpoints and all of Lambda's operations before the first call. Bodies are encoded and
decoded by our own shapes (`_wire`), so that all it needs here is how the parts of a call go into a request.
"""

from __future__ import annotations

from typing import Any, Final

API_VERSION: Final = "2015-03-31"
"""Of Lambda's API as a whole."""

_PATH: Final = "/2025-12-01/durable-executions/{DurableExecutionArn}"
"""Of what concerns one durable execution (PROTOCOL section 1)."""

_TOKEN: Final = {"shape": "Token"}
_ARN: Final = {"shape": "Token", "location": "uri", "locationName": "DurableExecutionArn"}


def _in_query(name: str, shape: str = "String") -> dict[str, str]:
    return {"shape": shape, "location": "querystring", "locationName": name}


def _operation(name: str, method: str, path: str) -> dict[str, Any]:
    return {
        "name": name,
        "http": {"method": method, "requestUri": f"{_PATH}/{path}", "responseCode": 200},
        "input": {"shape": f"{name}Request"},
        "output": {"shape": "Answer"},
    }


SERVICE: Final[dict[str, Any]] = {
    "version": "2.0",
    "metadata": {
        "apiVersion": API_VERSION,
        "endpointPrefix": "lambda",
        "protocol": "rest-json",
        "protocols": ["rest-json"],
        "serviceFullName": "AWS Lambda",
        "serviceId": "Lambda",
        "signatureVersion": "v4",
        "signingName": "lambda",
        "uid": f"lambda-{API_VERSION}",
    },
    "operations": {
        "CheckpointDurableExecution": _operation("CheckpointDurableExecution", "POST", "checkpoint"),
        "GetDurableExecutionState": _operation("GetDurableExecutionState", "GET", "state"),
    },
    "shapes": {
        "String": {"type": "string"},
        "Token": {"type": "string", "min": 1},
        "Integer": {"type": "integer"},
        # The body is encoded by us, and replaced before the call is signed.
        "CheckpointDurableExecutionRequest": {
            "type": "structure",
            "required": ["DurableExecutionArn"],
            "members": {"DurableExecutionArn": _ARN, "CheckpointToken": _TOKEN, "ClientToken": _TOKEN},
        },
        "GetDurableExecutionStateRequest": {
            "type": "structure",
            "required": ["DurableExecutionArn", "CheckpointToken"],
            "members": {
                "DurableExecutionArn": _ARN,
                "CheckpointToken": _in_query("CheckpointToken", "Token"),
                "Marker": _in_query("Marker"),
                "MaxItems": _in_query("MaxItems", "Integer"),
            },
        },
        "Answer": {"type": "structure", "members": {}},
    },
}
"""The two operations, as a service model of botocore's."""

_PARTITIONS: Final = {
    "aws": ("amazonaws.com", "api.aws", r"^(us|eu|ap|sa|ca|me|af|il|mx)\-\w+\-\d+$"),
    "aws-cn": ("amazonaws.com.cn", "api.amazonwebservices.com.cn", r"^cn\-\w+\-\d+$"),
    "aws-us-gov": ("amazonaws.com", "api.aws", r"^us\-gov\-\w+\-\d+$"),
    "aws-iso": ("c2s.ic.gov", "api.aws.ic.gov", r"^us\-iso\-\w+\-\d+$"),
    "aws-iso-b": ("sc2s.sgov.gov", "api.aws.scloud", r"^us\-isob\-\w+\-\d+$"),
    "aws-iso-e": ("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk", r"^eu\-isoe\-\w+\-\d+$"),
    "aws-iso-f": ("csp.hci.ic.gov", "api.aws.hci.ic.gov", r"^us\-isof\-\w+\-\d+$"),
    "aws-eusc": ("amazonaws.eu", "api.amazonwebservices.eu", r"^eusc\-(de)\-\w+\-\d+$"),
}
"""By name: the suffix of host names, the same for IPv6 and IPv4 both, and what regions are called."""


def endpoints() -> dict[str, Any]:
    """Where services are, as endpoints of botocore's: by the rule of each partition, without a list of regions."""
    return {
        "version": 3,
        "partitions": [
            {
                "partition": name,
                "partitionName": name,
                "dnsSuffix": suffix,
                "regionRegex": pattern,
                "regions": {},
                "services": {},
                "defaults": {
                    "hostname": "{service}.{region}.{dnsSuffix}",
                    "protocols": ["https"],
                    "signatureVersions": ["v4"],
                    "variants": [
                        {"tags": ["fips"], "dnsSuffix": suffix, "hostname": _FIPS},
                        {"tags": ["dualstack"], "dnsSuffix": both, "hostname": "{service}.{region}.{dnsSuffix}"},
                        {"tags": ["dualstack", "fips"], "dnsSuffix": both, "hostname": _FIPS},
                    ],
                },
            }
            for name, (suffix, both, pattern) in _PARTITIONS.items()
        ],
    }


_FIPS: Final = "{service}-fips.{region}.{dnsSuffix}"
