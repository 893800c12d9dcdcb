"""Which Prefect deployments, schedules and automations does a project have?"""
