"""The questions that simulated people ask: 90 subjects in 6 forms, none of which asks for a length or a style."""

from random import Random

SUBJECTS = (
    "bread", "the piano", "chess", "bicycles", "honey", "lighthouses", "tea", "volcanoes", "libraries", "soap",
    "kites", "rivers", "glass", "penguins", "maps", "tomatoes", "clocks", "wool", "bridges", "salt",
    "owls", "chocolate", "deserts", "guitars", "candles", "trains", "mushrooms", "ice cream", "museums", "rain",
    "paper", "dolphins", "castles", "coffee", "knots", "violins", "beaches", "bees", "mirrors", "rice",
    "windmills", "turtles", "cinema", "snow", "carpets", "pottery", "sailing", "apples", "telescopes", "poetry",
    "markets", "horses", "umbrellas", "cheese", "caves", "running shoes", "photography", "olives", "tunnels", "parrots",
    "puzzles", "gardens", "thunder", "pencils", "whales", "soup", "airports", "butterflies", "drums", "islands",
    "lemons", "postcards", "swimming", "forests", "batteries", "dancing", "spiders", "theatres", "jeans", "compasses",
    "pianos in schools", "street lamps", "peanut butter", "sandcastles", "fireworks", "ferries", "mountain huts",
    "night trains", "board games", "wild flowers",
)  # fmt: skip
FORMS = (
    "Tell me something about {}.",
    "Why do people care about {}?",
    "What should a beginner know about {}?",
    "What is the history of {}?",
    "How would you explain {} to a child?",
    "What would be missing in a world without {}?",
)


def all_questions(seed: int) -> list[str]:
    """All 540, shuffled by the seed."""
    questions = [form.format(subject) for subject in SUBJECTS for form in FORMS]
    Random(seed).shuffle(questions)
    return questions


def subject_of(question: str) -> str:
    """What a question asks about."""
    return next((subject for subject in sorted(SUBJECTS, key=len, reverse=True) if subject in question), "this")
