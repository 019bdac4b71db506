"""The criteria and studies that valuers are judged by."""
