"""A command's calls to AWS, shown as commands of the AWS CLI instead of made."""
