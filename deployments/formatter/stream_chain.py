"""Passes text that arrives in pieces through several streams, one after the other."""

from graph.lifecycle import TextStream


class StreamChain:
    """A stream made of streams: the first one's output is the next one's input."""

    def __init__(self, *streams: TextStream) -> None:
        self._streams = streams

    def feed(self, text: str) -> str:
        """Takes the next piece and returns all text that is now certain; may be empty."""
        for stream in self._streams:
            text = stream.feed(text)
        return text

    def flush(self) -> str:
        """Returns the rest. Call it once, when the text is whole; the streams are used up then."""
        text = ""
        for stream in self._streams:
            text = stream.feed(text) + stream.flush()
        return text
