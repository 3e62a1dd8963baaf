"""What runctl has in an account, in the terms of Terraform's AWS provider."""
