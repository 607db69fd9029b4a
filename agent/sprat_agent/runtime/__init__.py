"""Model engines in processes of their own, and what answers under each alias."""
