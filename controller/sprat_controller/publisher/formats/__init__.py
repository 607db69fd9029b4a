"""Files and folders of other tools, read with limits: what a publisher got is not trusted."""
