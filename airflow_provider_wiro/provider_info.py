"""What Airflow's provider manager reads of this package. A plain dictionary: nothing is imported for it."""

from __future__ import annotations

from typing import Any

PROVIDER_INFO: dict[str, Any] = {
    "package-name": "airflow-provider-wiro",
    "name": "Wiro AI",
    "description": "Order videos and other generated media at `Wiro <https://wiro.ai>`__, wait for them without "
    "holding a worker, and store them.",
    "integrations": [
        {
            "integration-name": "Wiro AI",
            "external-doc-url": "https://wiro.ai/docs",
            "tags": ["ai", "service"],
        }
    ],
    "hooks": [{"integration-name": "Wiro AI", "python-modules": ["airflow_provider_wiro.hooks.wiro"]}],
    "operators": [
        {
            "integration-name": "Wiro AI",
            "python-modules": [
                "airflow_provider_wiro.operators.approval",
                "airflow_provider_wiro.operators.fetch",
                "airflow_provider_wiro.operators.seedance",
                "airflow_provider_wiro.operators.wiro",
            ],
        }
    ],
    "sensors": [{"integration-name": "Wiro AI", "python-modules": ["airflow_provider_wiro.sensors.wiro"]}],
    "triggers": [
        {
            "integration-name": "Wiro AI",
            "python-modules": ["airflow_provider_wiro.triggers.batch", "airflow_provider_wiro.triggers.wiro"],
        }
    ],
    "config": {
        "wiro": {
            "description": "The page of videos in Airflow's UI.",
            "options": {
                "ui_media_roots": {
                    "description": "Folders from which the page plays videos, separated by commas or line breaks: "
                    "paths, or addresses such as s3://aws_default@bucket/videos, as tasks have them for "
                    "`destination`. Empty: none; the page shows where Wiro has them.",
                    "version_added": "0.1.0",
                    "type": "string",
                    "example": "/data/videos, s3://aws_default@bucket/videos",
                    "default": "",
                },
            },
        },
    },
    "asset-uris": [
        {
            "schemes": ["wiro"],
            "handler": "airflow_provider_wiro.assets.sanitize_uri",
            "factory": "airflow_provider_wiro.assets.create_asset",
        }
    ],
    "extra-links": ["airflow_provider_wiro.links.WiroTaskLink", "airflow_provider_wiro.links.WiroVideoLink"],
    "task-decorators": [{"name": "seedance", "class-name": "airflow_provider_wiro.decorators.seedance.seedance_task"}],
    "connection-types": [
        {
            "connection-type": "wiro",
            "hook-class-name": "airflow_provider_wiro.hooks.wiro.WiroHook",
            "hook-name": "Wiro AI",
            "ui-field-behaviour": {
                "hidden-fields": ["login", "schema"],
                "relabeling": {"host": "Base URL", "password": "API key"},
                # Port stays visible: without one, Airflow 3.3.2's Test button answers "Bad Request".
                "placeholders": {
                    "host": "https://api.wiro.ai/v1 (the default)",
                    "password": "the key of your Wiro project (its secret: below, under Extra Fields)",
                    "port": "443 (needed by the Test button of Airflow 3.3.2)",
                },
            },
            "conn-fields": {
                "api_secret": {
                    "label": "API secret",
                    "description": "The secret of a signature project; leave it empty for a key-only project.",
                    "schema": {"type": ["string", "null"], "format": "password"},
                },
                "output_hosts": {
                    "label": "Output hosts",
                    "description": "Hosts that files may come from beside Wiro's own: cdn.example.com, *.example.org",
                    "schema": {"type": ["string", "null"]},
                },
            },
        }
    ],
}
