"""The commonest words of languages in Latin script: articles, prepositions, pronouns, question words, and in English
the verbs with which requests begin.

They tell short prompts apart, on which a language detector guesses, and spare it most English sentences. Chosen by hand
from the head of each frequency list of wordfreq 3.1.1; contractions are written with the plain apostrophe.
"""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["COMMON_WORDS", "ENGLISH_ONLY"]

_LISTS = {
    "en": "the to and of a in is for that you it on with this was be as are have at he not by but from my or we an "
    "your so his they if can will just like about up out what has when more do no were who had it's their "
    "there her she would which how don't some them than only into these us because most much very where should "
    "i i'm been could may its our any each before after until while then too can't won't you'll they're that's "
    "there's such those without between through both does did make every keep also doesn't isn't you're why "
    "whose tell write describe explain give show compare please what's who's where's here's let's i've you've "
    "they've we've didn't aren't one "
    "summarise summarize rewrite paraphrase shorten proofread translate reply correct continue",
    "de": "der die und in das ich ist nicht zu den von mit es ein auf für im sie eine sich auch dem des als er an "
    "dass so bei wie aber aus hat sind nach noch wir nur wenn oder wird was werden einen am um haben einer zum "
    "kann über dann einem schon mehr sein vor zur durch hier bis ihr immer diese keine alle sehr können unter "
    "vom gibt dieser seine alles also ohne weil damit denn kein du mein meine dein deine mir mich man zwischen "
    "wer warum wann welche welcher welches wo woher wurde war",
    "fr": "de la le et les est en des un que pas une du il pour dans je qui au ce sur par on ne plus avec mais se "
    "vous tu elle son ou si sont tout nous comme être cette sa aux ont même lui aussi peut leur ces quand très "
    "sans où encore entre votre chaque puis donc car ses notre ils elles cela c'est d'un d'une qu'il mon ma "
    "mes quel quelle quels quelles quoi pourquoi comment combien qu'est-ce y a-t-il faut moi",
    "es": "de la que el en y los no un se por es del las con una para lo su al como más si pero te o me mi le este "
    "sus esta todo ya ha cuando son sin hay está muy sobre también todos eso nos porque qué así entre puede "
    "desde hasta ser era donde cada cuál cuáles quién quiénes cómo dónde cuándo cuánto cuántos tu unos unas "
    "pueden fue otro otra ni",
    "it": "di e che il la a in non un per è del i una le si con della da sono ma al ha come più dei se nel mi alla "
    "anche lo gli delle o questo ho ci su dal essere nella ti era quando tutti questa tutto dalla degli sul "
    "alle uno ne quello sempre molto senza ogni può nei così dopo prima perché tra fra loro agli dai sulla ai "
    "mentre cosa chi quale quali quanto dove cos'è com'è c'è qual mio mia",
    "pt": "de a o que e do em da é para não um uma com no se na por os eu como as mais dos mas ao me você ser sua "
    "seu tem são das ou à ele ela muito isso já nos também quando está meu minha pelo pela só sobre até pode "
    "sem entre nas depois este esta qual quais quem onde há cada num numa aos às porque foi quanto posso",
    "nl": "de van het een en in is op ik dat voor je te met niet zijn die als er maar om aan hij ook ze door naar "
    "uit bij dan dit was we wat of over nog deze kan meer zo al geen wel tot wordt worden nu kunnen moet hoe "
    "waarom waar wie welke wanneer onder had dus zonder veel heb heeft tussen zich elke hun haar mijn jij ben "
    "gaat mij",
    "sv": "är det att och i jag på en inte som för med har av om du så till den de ett kan vi men man var när nu vad "
    "från här mig eller han hon hur sig vara där ska mycket upp in än efter också allt måste under utan många "
    "vem varför vilken vilket vilka bara vid mellan genom blir varje alla andra din sin min mitt dem gör ut",
    "no": "i og er det å på som til en av for ikke med har jeg at de du om den så vi fra var kan et men han hun seg "
    "sig dette denne skal vil ved også være hvor nu nå man hvis etter efter eller her hva hvad hvem hvordan "
    "hvorfor hvilken hvilke når blir bliver over enn end kun uten uden meget mye mange alle mer mere før hver "
    "mellom mellem din min mit deg mig meg give af ud ut op opp have",
    "fi": "ja on ei että se oli mutta ole kun niin myös hän jos ovat voi nyt sen kuin tai en joka olla sitä mitä "
    "mikä miten miksi kuka missä mistä milloin vain jo kanssa tämä sitten kaikki vielä siitä ne sekä jälkeen "
    "paljon ennen jotka tämän eivät koska aina ilman mukaan minun kerro onko millainen voiko",
    "pl": "w i nie na się to z do jest że jak a ale co tak za od po dla tym czy przez są ma już ze może bo oraz "
    "bardzo będzie być by ich jeśli też jeszcze był które jako jej kiedy który która jaki jaka jakie kto gdzie "
    "dlaczego pod go więc bez żeby jednak lub można przy przed ten ta te tej tego niż aby ponieważ każdy "
    "między jego mam mi sobie napisz opisz wyjaśnij czym",
    "cs": "a se v na je to že s z si do jsem ale o tak pro ve za co k jako jak po by už od jsou mi když nebo bude "
    "které který která až není aby než být také při toho ten kde kdo proč jaký jaká jaké kdy před protože "
    "podle pokud bez může mezi jen ještě můj moje mám této tento čím napiš vysvětli popiš",
    "ro": "de în și a la să din o pe cu nu mai un este că care pentru se au ce ca al am sunt sau dacă după le prin "
    "cum când ale cel cea fără fiecare poate unei unui ei lui între doar până dar iar toate această cine unde "
    "cât mea meu mele",
    "hu": "a az és nem hogy egy is de meg csak van vagy már még el azt mint ezt minden mert nagyon így olyan lesz "
    "lehet nincs aki ha ne amikor ami pedig úgy volt után között alatt ki mi miért hol hogyan milyen mennyi "
    "melyik mikor ez nekem",
    "tr": "ve bir bu için de da çok ile daha en gibi olarak her kadar o olan ama sonra ki ya değil sadece ise bile "
    "nasıl şey önce göre mı mi mu mü veya kendi olduğu içinde çünkü ancak ne nedir neden kim kimdir hangi "
    "nerede kaç bana benim misin mısın var yok yapılır",
    "id": "yang dan di ini dari untuk dengan itu bisa ada tidak akan adalah dalam pada ke juga anda saya lebih sudah "
    "mereka karena atau menjadi jika hanya kami saat sebagai telah dapat seperti oleh agar setelah tentang "
    "atas ketika kita apa siapa bagaimana mengapa kenapa berapa kapan mana cara saja tolong apakah",
    "vi": "và là có của được một các không trong cho người này với ở đã để như những đến khi làm sẽ từ ra họ tại về "
    "vào đó cũng phải mà thì trên sau còn nhưng rất theo hơn nên nếu trước hay bạn tôi gì ai sao thế nào bao "
    "nhiêu hãy nhiều",
}
COMMON_WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {language: frozenset(words.split()) for language, words in _LISTS.items()}
)
"""Lower-case words by language (ISO 639-1). Danish and the Norwegian languages share one list, under "no"."""
ENGLISH_ONLY = COMMON_WORDS["en"].difference(*(COMMON_WORDS[other] for other in COMMON_WORDS if other != "en"))
"""The English ones that are common in no other language of the table."""
