"""Task memories on the Hugging Face hub: names, fetching, pushing, the card. All of it goes through
huggingface_hub, which is imported when it is used and not before."""
