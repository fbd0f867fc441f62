"""A local Wiro: a server that behaves like Wiro's API, so that the provider can be tried without an account.

From a shell::

    python -m airflow_provider_wiro.emulator --speed 60 --fault run:error_after:rate=0.1

From Python, in a thread of its own::

    with LocalWiro(speed=600) as wiro:
        os.environ["AIRFLOW_CONN_WIRO_DEFAULT"] = wiro.connection_json()

It offers the Seedance models with their real inputs and made-up prices, checks signatures, keeps an account
with a balance and its limits, and draws real MP4s: the pixels, length and frame rate that were ordered, with
prompt and seed in the picture. It shares no code with the rest of the package, so it can judge it.

**Marks** in a prompt force an end:

=================== ========================================================================================
``[wiro:fail]``     ends with ``task_postprocess_end`` and exit code 1, refused by a content policy
``[wiro:error]``    ends with ``task_error`` before the model has started
``[wiro:cancel]``   is cancelled by the system before a worker has begun
``[wiro:slow=120]`` takes 120 Wiro seconds
``[wiro:hang]``     runs until it is killed
``[wiro:unknown]``  passes through a status that nobody has heard of
=================== ========================================================================================

**Models** besides Seedance: ``local/echo-text`` answers with text and no file; every run of
``local/members-only`` is refused with code 98, every run of ``local/not-accessible`` with code 1.

**Faults** (``--fault``, :meth:`LocalWiro.set_faults`, ``POST /control/faults``) are described in
:mod:`airflow_provider_wiro.emulator.faults`.

**The ledger** (:meth:`LocalWiro.ledger`, ``GET /ledger``) tells what really happened:

* ``runs``: every accepted run, oldest first: ``taskid``, ``model``, ``parameters``, ``created`` and
  ``ended`` (unix seconds, by the right clock; ``ended`` is ``None`` while it lives), ``status``, ``pexit``,
  ``billed`` (a boolean), ``cost`` (USD, ``"0.00"`` if not billed), ``stopped_by_request`` (Cancel or Kill ended
  it) and ``foreign`` (somebody else's);
* ``billed_total`` and ``balance`` in USD, as strings;
* ``calls`` by endpoint (``"Run"``, ``"Task/Detail"``, ...; ``"elsewhere"`` is where redirects lead) and
  ``refusals`` by code, as strings;
* ``connections``: TCP connections that asked the API or the CDN for something; ``reused_nonces``;
* ``cdn``: ``requests``, ``bytes``, and ``leaked_headers``, the names of credential headers that arrived
  there;
* ``stops``: ``cancelled`` and ``killed`` by request;
* ``faults`` that happened, by ``POINT:KIND``.

**Settings** besides: a ``limit`` of tasks alive at once that does not follow from the balance (``--limit``,
:meth:`LocalWiro.set_limit`); a ``clock_offset`` (``--clock-offset``, :meth:`LocalWiro.set_clock_offset`) by
which all times are wrong that callers see, those of tasks and the ``Date`` header, while tasks take as long
as ever (a task keeps the clock under which it was accepted); a ``cdn_host`` (``--cdn-host 127.0.0.2``), so that
output files are at another address than the API. :meth:`LocalWiro.run_foreign` adds what others in the project
run.

**Controls**, all ``POST``: ``/control/faults`` with ``{"faults": [...]}``, ``/control/balance`` with
``{"balance": 100}``, ``/control/limit`` with ``{"limit": 60}`` (``null``: by the balance), ``/control/clock``
with ``{"offset": 90}``, ``/control/foreign`` with ``{"count": 5}`` and, if wanted, ``model``, ``prompt`` and other
inputs, ``/control/reset``, which leaves the settings as they are. ``GET /`` is a page with the videos,
``GET /tasks/{taskid}`` one for each.
"""

from __future__ import annotations

from airflow_provider_wiro.emulator.local import LocalWiro

__all__ = ["LocalWiro"]
