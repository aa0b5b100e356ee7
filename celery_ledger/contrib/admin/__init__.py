"""The desk: durable tasks and their attempts, dead letters by kind, queues, in any project's admin."""
