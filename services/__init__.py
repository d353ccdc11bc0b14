"""The services of Agent Dispatch, one package each; they speak to one another only in facts over the broker."""
