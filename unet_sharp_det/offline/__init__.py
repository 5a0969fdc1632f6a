"""A folder that runs trainings on a machine without network: what it lacks, and the data."""
