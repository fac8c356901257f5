"""Amazon Bedrock's Converse, as far as a provider speaks it. The codec is in `codec`."""
