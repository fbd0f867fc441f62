"""What Wiro is: signing, inputs, tasks, requests. Imports no Airflow."""
