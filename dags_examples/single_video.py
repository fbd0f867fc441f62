"""One video, ordered in Airflow's own form: press *Trigger*, describe it, choose its shape.

One task submits, waits without a worker, and fetches.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, Param

from airflow_provider_wiro.operators.seedance import SeedanceRunOperator

VIDEOS = os.environ.get("WIRO_VIDEOS_DIR", str(Path.home() / "wiro-videos"))
POLL_INTERVAL = float(os.environ.get("WIRO_POLL_INTERVAL", "15"))

with DAG(
    dag_id="single_video",
    schedule=None,
    tags=["wiro", "example"],
    doc_md=__doc__,
    params={
        "prompt": Param(
            "A ceramic teapot on a windowsill, steam curling in the morning light, slow push in",
            type="string",
            format="multiline",
            minLength=1,
            pattern=r"\S",
            title="Prompt",
            description="What the video shows.",
        ),
        "resolution": Param("480p", type="string", enum=["480p", "720p"], title="Resolution"),
        "ratio": Param(
            "16:9", type="string", enum=["16:9", "4:3", "1:1", "3:4", "9:16", "21:9", "9:21"], title="Aspect ratio"
        ),
        "duration": Param(5, type="integer", enum=[5, 10], title="Seconds"),
        "fps": Param(24, type="integer", enum=[24, 16], title="Frames per second"),
        "watermark": Param(False, type="boolean", title="Watermark"),
        "camera_fixed": Param(False, type="boolean", title="Camera stands still"),
        "seed": Param(
            None,
            type=["integer", "null"],
            minimum=-1,
            maximum=2**32 - 1,
            title="Seed",
            description="The same seed and inputs give the same video; -1 is random.",
        ),
    },
) as dag:
    SeedanceRunOperator(
        task_id="video",
        prompt="{{ params.prompt }}",
        resolution="{{ params.resolution }}",
        ratio="{{ params.ratio }}",
        duration="{{ params.duration }}",
        fps="{{ params.fps }}",
        watermark="{{ params.watermark }}",
        camera_fixed="{{ params.camera_fixed }}",
        seed="{{ params.seed }}",
        wait_for_completion=True,
        poll_interval=POLL_INTERVAL,
        destination=VIDEOS + "/single",
    )
