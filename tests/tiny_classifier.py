"""A sequence classifier of a few hundred weights, made on the fly: what an operator would mount into a model slot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("word", "vile", "good", "rain", "sun")
MAX_POSITIONS = 64


def save_classifier(folder: Path, labels: Sequence[str] = ("fine", "toxic"), spoil: Any = None, **config: Any) -> Path:
    """Writes model and tokenizer into ``folder`` and returns it.

    Args:
        spoil: Called with the model before it is written.
        config: More of the model's configuration.
    """
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import BertProcessing
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *WORDS))}
    tokenizer: Any = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            max_position_embeddings=MAX_POSITIONS,
            initializer_range=1.0,  # weights so large that scores differ from word to word
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            pad_token_id=0,
            **config,
        )
    )
    with torch.no_grad():
        # Where a word stands makes no difference: windows of the same words have nearly the same score.
        model.bert.embeddings.position_embeddings.weight.zero_()
        if spoil is not None:
            spoil(model)
    model.save_pretrained(folder)
    return folder
