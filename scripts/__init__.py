"""What surrounds the provider: a live Airflow in one command, and the demo that runs on it."""
