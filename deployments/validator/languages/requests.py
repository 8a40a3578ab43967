"""What a request says about the languages of its answer: names them, wants a translation, sayings, help with learning.

Found by parts of words, in English and other large languages. Whatever is found only makes the language check milder,
so a word found in vain ("German bread" allows German) costs little.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["LanguageRequest", "read_language_request"]

# A space stands for the begin of a word.
_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        code: tuple(stems.split("|"))
        for code, stems in {
            "en": "english|englisch|anglais|inglés|ingles|inglês|engels|engelsk|angielsk|angličt|ingilizce|inggris"
            "|tiếng anh|английск|англійськ|英语|英文|英語|영어|إنجليزي|अंग्रेज",
            "de": "german|deutsch|allemand|alemán|alemão|tedesc|duits| tysk|niemieck|немецк|німецьк|德语|德文"
            "|ドイツ語|독일어",
            "fr": "french|französ|français|francés|francês|francese| frans|fransk|francusk|французск|французьк|法语"
            "|法文|フランス語|프랑스어",
            "es": "spanish|spanisch|espagnol|español|castellan|spagnol|espanhol|spaans|spansk|испанск|іспанськ"
            "|西班牙|スペイン語|스페인어",
            "it": "italian|italien|italiaans|итальянск|італійськ|意大利|イタリア語|이탈리아어",
            "pt": "portugu|portugais|portoghes|portugies|brazilian|португальск|葡萄牙|ポルトガル語",
            "nl": "dutch|niederländ|néerland|neerland|holand|olandese|nederlands|flemish|нидерланд|荷兰|オランダ語",
            "sv": "swedish|schwedisch|suédois|sueco|svedese|zweeds|svensk|шведск|瑞典|スウェーデン語",
            "no": "norwegian|norweg|norsk|danish|dänisch|danois|danés|danese|dansk|норвежск|датск|挪威|丹麦",
            "fi": "finnish|finnisch|finnois|suomi|suomeksi|suomen kiel|финск|芬兰",
            "pl": "polish|polnisch|polonais|polaco|polacc|pools|polsk|польск|波兰|ポーランド語",
            "cs": "czech|tschech|tchèque|česk|čeština|slovak|чешск|捷克",
            "ro": "romanian|rumän|roumain|român|румынск",
            "hu": "hungarian|ungar|hongrois|magyar|венгерск",
            "tr": "turkish|türk|turc|turco| turks|турецк|土耳其|トルコ語|터키어",
            "id": "indones|malay|индонез|印尼|インドネシア語|인도네시아어",
            "vi": "vietnam|tiếng việt|вьетнамск|越南|ベトナム語|베트남어",
            "ru": "russian|russisch|russe|ruso|russo|rosyjsk|rysk|русск|російськ|俄语|俄文|ロシア語|러시아어",
            "uk": "ukrain|украинск|українськ|乌克兰",
            "ar": " arab| árabe|арабск|阿拉伯|アラビア語|아랍어|عربي|العربية|koran|quran",
            "hi": "hindi|sanskrit|urdu|हिन्दी|हिंदी|хинди|印地语",
            "zh": "chines|chinois|cinese|mandarin|cantones|pinyin|китайск|中文|汉语|漢語|中国語|중국어|kanji|hanzi",
            "ja": "japan|japon|giappon|японск|日语|日文|日本語|일본어|kanji|hiragana|katakana",
            "ko": "korean|korea|coréen|coreano|корейск|韩语|韩文|韓国語|한국어|hangul",
            "el": "greek|griech| grec|grieg|ελλην|греческ|希腊",
            "he": "hebrew|hebrä|hébreu|hebreo|עברית|иврит|希伯来|yiddish",
            "th": " thai|ไทย|тайск|泰语|タイ語",
            "fa": "persian|persisch|persan|farsi|فارسی",
        }.items()
    }
)
_TRANSLATION = (
    "translat", "übersetz", "tradui", "tradu", "vertaal", "vertal", "перевед", "перевод", "переклад", "翻译", "翻譯",
    "翻訳", "번역", "ترجم", "अनुवाद", "tłumacz", "översätt", "oversæt", "oversett", "çevir", "terjemah", "bản dịch",
    "dịch sang", "bilingual", "multilingual",
)  # fmt: skip
_OTHER_LANGUAGES = re.compile(
    r"\b(?:another|other|any|each|every|different|foreign|native|original|own|many|several|some|more|\d{1,4}|two|three"
    r"|four|five|six|seven|eight|nine|ten) (?:\w{1,20} )?languages?\b"
)
_SAYINGS = (
    "motto", "proverb", "sayings", "a saying", "the saying", "anthem", "lyrics", "slogan", "phrase", "idiom",
    "quotation", " quote", "sprichw", "zitat", "devise", "refrán", "refrane", "provérbi", "пословиц", "цитат",
    "прислів", "谚语", "成语", "名言", "ことわざ", "속담",
)  # fmt: skip
_LEARNING = (
    " learn", " study", " improve", " lern", " verbesser", "appren", "amélior", " aprend", " mejor", " impar",
    " miglior", " melhor", " leren", " lär", " lær", " uczy", "nauczy", " učit", "изуч", "выуч", " учи", "вивч",
    " вчи", "öğren", "belajar", " học", "学习", "學習", "学好", "学英", "勉強", "공부", "배우", "تعلم", "सीख",
)  # fmt: skip
_TEXTS = (
    " writ", " text", " dialog", " story", " stories", " sentence", " example", "schreib", "beispiel", "écri",
    " exempl", " escrib", "ejempl", " scriv", "esemp", "escrev", "schrijf", "voorbeeld", "skriv", "exempel",
    "eksempel", "napis", "napiš", "przykł", "напиш", "напис", "пример", "приклад", " yaz", "örnek", "tulis", "contoh",
    " viết", "ví dụ", "写", "寫", "書", "例", "써", "작성", "예문", "اكتب", "مثال", "लिख", "उदाहरण",
)  # fmt: skip


class LanguageRequest(NamedTuple):
    """What a request says."""

    named: frozenset[str]
    """Codes of the languages that it names: ISO 639-1, "no" for Danish too."""
    wants_others: bool
    """A translation, or languages that it doesn't name one by one."""
    wants_sayings: bool
    """Mottos, quotations, phrases: these come in their own language."""
    is_about_learning: bool
    """Of the languages named, none of which is to be written in."""


def read_language_request(asked: str) -> LanguageRequest:
    """Reads a prompt, and what else the answer has to follow. Linear; about 0.1 ms for 1000 characters."""
    folded = f" {' '.join(asked.lower().split())}"
    return LanguageRequest(
        named=frozenset(code for code, stems in _NAMES.items() if _has_one(folded, stems)),
        wants_others=_has_one(folded, _TRANSLATION) or _OTHER_LANGUAGES.search(folded) is not None,
        wants_sayings=_has_one(folded, _SAYINGS),
        is_about_learning=_has_one(folded, _LEARNING) and not _has_one(folded, _TEXTS),
    )


def _has_one(text: str, stems: Iterable[str]) -> bool:
    return any(stem in text for stem in stems)
