"""Every Seedance model's inputs, as we send them, are inputs that the local Wiro's own tables take."""

from __future__ import annotations

import itertools

import pytest

from airflow_provider_wiro.api.client import WiroClient
from airflow_provider_wiro.api.seedance import MODELS, SeedanceModel, wire_inputs


def orders(spec: SeedanceModel) -> list[dict[str, object]]:
    shapes = itertools.zip_longest(spec.resolutions, spec.ratios, spec.durations, spec.frame_rates)
    return [
        {
            "prompt": f"Take {number}",
            "resolution": resolution or spec.resolutions[0],
            "ratio": ratio or spec.ratios[0],
            "duration": duration or spec.durations[0],
            "fps": rate or (spec.frame_rates[0] if spec.frame_rates else None),
            "watermark": True,
            "camera_fixed": True,
            "seed": number,
            "callback_url": "http://127.0.0.1:9/",
            "image_url": "https://example.org/first.png" if spec.first_frame else None,
            "last_image_url": "https://example.org/last.png" if spec.last_frame else None,
            "generate_audio": True if spec.audio else None,
        }
        for number, (resolution, ratio, duration, rate) in enumerate(shapes)
    ]


@pytest.mark.parametrize("model", MODELS)
def test_every_option_is_taken(client: WiroClient, model: str) -> None:
    for order in orders(MODELS[model]):
        inputs = wire_inputs(model, order)
        receipt = client.run(model, inputs)
        assert client.get_task(receipt.wiro_task_id).inputs == inputs
