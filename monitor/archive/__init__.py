"""Days of the log and of summaries as Parquet files in a folder, written so that nothing is lost by a crash."""
