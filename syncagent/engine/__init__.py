"""Send-missing, fetch-missing, sync."""
