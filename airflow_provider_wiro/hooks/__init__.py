"""From an Airflow connection to Wiro."""
