"""Three short sources of our own for each question: what answers with citations may cite.

Their ids are of different shapes, as callers' are: a number, a letter with a number, a word with marks.
"""

from collections.abc import Mapping

IDS = ("1", "b2", "note-3.1")

_TEXTS: Mapping[str, tuple[str, str, str]] = {
    "How does a vaccine work?": (
        "A vaccine shows the immune system a harmless piece of a germ.",
        "Memory cells stay in the body for years and answer faster the next time.",
        "Some vaccines need a second dose to build lasting protection.",
    ),
    "What happens when water boils?": (
        "At sea level water boils at 100 degrees Celsius.",
        "The bubbles in boiling water are water vapour, not air.",
        "On a mountain the air pressure is lower and water boils at a lower temperature.",
    ),
    "How does a battery store energy?": (
        "A battery has two electrodes with an electrolyte between them.",
        "When a battery is used, electrons flow from the negative to the positive electrode.",
        "In a lithium-ion battery, lithium ions move back and forth between the electrodes.",
    ),
    "What is inflation in an economy?": (
        "Inflation is a general rise of prices over time.",
        "With inflation the same amount of money buys less.",
        "Central banks raise interest rates to slow inflation down.",
    ),
    "How does a computer remember things?": (
        "Working memory forgets everything when the power is off.",
        "A disk keeps data as tiny magnetic or electric states.",
        "Eight bits make one byte.",
    ),
    "How do I make a good cup of tea?": (
        "Black tea wants water that has just boiled.",
        "Green tea turns bitter in water above 80 degrees.",
        "Three to five minutes are enough for most teas.",
    ),
    "How do I change a flat bicycle tyre?": (
        "Tyre levers lift the tyre over the edge of the rim.",
        "A thorn that stays in the tyre will pierce the new tube as well.",
        "The pressure that a tyre needs is printed on its side.",
    ),
    "How do I grow tomatoes at home?": (
        "Tomatoes need six to eight hours of sun a day.",
        "Water at the roots, since wet leaves invite disease.",
        "A stick or a cage keeps the plant upright.",
    ),
    "How do I back up the files on my computer?": (
        "Keep three copies on two kinds of storage, one of them in another place.",
        "A backup that was never restored is only a hope.",
        "An external disk should be unplugged after the backup.",
    ),
    "How do I remove a stain from a shirt?": (
        "Cold water loosens blood, warm water sets it.",
        "Dish soap dissolves grease.",
        "Try a cleaner on a hidden seam first.",
    ),
    "What is the difference between weather and climate?": (
        "Weather is the state of the air at one place and time.",
        "Climate is the average of the weather over about thirty years.",
        "One cold winter says little about the climate.",
    ),
    "How do cats differ from dogs as pets?": (
        "Dogs need walks every day, cats do not.",
        "Cats sleep twelve to sixteen hours a day.",
        "Dogs were tamed thousands of years before cats.",
    ),
    "How does solar power compare with wind power?": (
        "Solar panels give nothing at night.",
        "Wind turbines stand still when the wind is too weak.",
        "In many places wind is strongest in winter and sun in summer.",
    ),
    "How does a virus differ from a bacterium?": (
        "A bacterium is a living cell that can divide by itself.",
        "A virus needs a host cell to multiply.",
        "Antibiotics work on bacteria and not on viruses.",
    ),
    "How does living in a city compare with living in a village?": (
        "In cities rents are higher and ways to work are shorter.",
        "In villages nights are quieter and darker.",
        "A village shop has fewer goods than a supermarket.",
    ),
    "What should I do before a first job interview?": (
        "People who read about the company beforehand give better answers.",
        "It helps to arrive ten minutes early.",
        "Prepare two questions of your own.",
    ),
    "How can I sleep better at night?": (
        "A cool and dark room helps most people to sleep.",
        "Coffee still works six hours after it was drunk.",
        "Going to bed at the same time each day trains the body.",
    ),
    "What should I think about before I buy a used car?": (
        "A service book shows how a car was looked after.",
        "A test drive on a cold engine tells more than on a warm one.",
        "Rust under the doors is a bad sign.",
    ),
    "How can I save money every month?": (
        "Money that leaves the account on payday is not missed.",
        "Subscriptions that nobody uses cost many families fifty euros a month.",
        "A list keeps a shopper from buying on impulse.",
    ),
    "What can I do about back pain at a desk?": (
        "The top of the screen should be at the height of the eyes.",
        "Standing up every half hour relieves the back.",
        "Strong muscles of the belly carry part of the load.",
    ),
    "Describe a busy market in the morning.": (
        "The first sellers build up their stands at five o'clock.",
        "Fish is sold on crushed ice.",
        "By noon the flowers are cheaper.",
    ),
    "Describe the human heart.": (
        "The heart has two chambers above and two below.",
        "It beats about a hundred thousand times a day.",
        "Valves keep the blood from flowing back.",
    ),
    "Describe a forest in autumn.": (
        "Leaves turn yellow when the green pigment breaks down.",
        "Mushrooms grow best in moist and mild weeks.",
        "Squirrels bury nuts and forget some of them.",
    ),
    "Describe the planet Mars.": (
        "Mars is red because its dust holds rusted iron.",
        "A day on Mars is 37 minutes longer than on Earth.",
        "Olympus Mons on Mars is the tallest volcano that is known.",
    ),
    "Describe a steam engine.": (
        "Steam takes far more room than the water it came from.",
        "The piston moves back and forth in a cylinder.",
        "James Watt added a separate condenser.",
    ),
    "Tell the story of a lost dog that finds its way home.": (
        "A dog can follow a scent that is several days old.",
        "The bridge over the river was closed that week.",
        "A baker gave the dog a roll every morning.",
    ),
    "Tell how the first railways changed the world.": (
        "The line from Liverpool to Manchester opened in 1830.",
        "Towns agreed on one time because trains needed timetables.",
        "Fresh milk could now reach the cities.",
    ),
    "Tell the story of a lighthouse keeper in a storm.": (
        "The lamp had to be wound up every four hours.",
        "The storm of that night broke three windows.",
        "A fishing boat saw the light and turned in time.",
    ),
    "Tell how the Roman Empire came to an end.": (
        "The last emperor in the west was deposed in 476.",
        "The eastern half lasted for almost another thousand years.",
        "The army had become too expensive for the state.",
    ),
    "Tell the story of a child who plants a tree.": (
        "The seed came from an apple that her grandfather had given her.",
        "An apple tree bears its first fruit after about five years.",
        "In the dry summer she carried water from the well.",
    ),
    "Plan a birthday party for a six-year-old.": (
        "Two hours are long enough at this age.",
        "As many guests as the child has years is a good rule.",
        "Some children cannot eat nuts.",
    ),
    "Plan a weekend trip to the mountains.": (
        "Thunderstorms come in the afternoon in summer.",
        "The hut at the lake has to be booked a month ahead.",
        "The last bus back leaves at six o'clock.",
    ),
    "Plan how a small shop could get more customers.": (
        "Most customers live within a ten minute walk.",
        "A clean window brings people in.",
        "Regular guests tell their neighbours.",
    ),
    "Plan how to learn a new language in a year.": (
        "Twenty minutes a day beat three hours on Sunday.",
        "The thousand most frequent words make up most of a talk.",
        "Speaking from the first week lowers the fear of mistakes.",
    ),
    "Plan an experiment that shows that plants need light.": (
        "Bean seeds sprout within a week.",
        "A control group gets the same water and the same soil.",
        "Plants in the dark grow long and pale.",
    ),
    "Why is the sky blue?": (
        "Air scatters blue light more than red light.",
        "In the evening light takes a longer way through the air.",
        "Without air the sky is black, as on the moon.",
    ),
    "Why do people dream?": (
        "Most vivid dreams come in REM sleep.",
        "Sleep helps the brain to keep what was learned.",
        "Most dreams are forgotten within minutes.",
    ),
    "Why is reading good for children?": (
        "Children who are read to know more words when they start school.",
        "Stories teach how other people feel.",
        "Ten minutes a day make a difference.",
    ),
    "Why do some countries use more energy than others?": (
        "Cold winters need heating.",
        "Steel and cement take much energy to make.",
        "Rich countries drive more cars for each person.",
    ),
    "Why should software be tested?": (
        "A fault that is found late costs more to mend.",
        "Automatic tests run on every change.",
        "Tests show that faults are there, never that none is left.",
    ),
    "How does a refrigerator keep food cold?": (
        "A refrigerant takes up heat when it evaporates inside the cabinet.",
        "The compressor presses the gas together, which makes it hotter.",
        "Coils at the back give the heat to the room.",
    ),
    "How do plants make their food?": (
        "Leaves take in carbon dioxide through tiny pores.",
        "Chlorophyll catches the energy of sunlight.",
        "Photosynthesis makes sugar and sets oxygen free.",
    ),
    "What is a black hole?": (
        "Not even light can leave a black hole.",
        "Some black holes form when a very heavy star collapses.",
        "The black hole in the middle of our galaxy weighs about four million suns.",
    ),
    "How does a bank earn money?": (
        "Banks charge more interest on loans than they pay on savings.",
        "Fees for accounts and cards are a second source of income.",
        "A loan that is not paid back costs the bank money.",
    ),
    "What does the liver do in the body?": (
        "The liver makes bile, which helps to digest fat.",
        "It stores sugar as glycogen and releases it between meals.",
        "Alcohol and many medicines are broken down in the liver.",
    ),
    "How do I bake a simple cake?": (
        "Butter and eggs mix better at room temperature.",
        "Baking powder lets the cake rise in the oven.",
        "A wooden stick that comes out clean shows that the cake is done.",
    ),
    "How do I paint a room?": (
        "Paint sticks badly to dusty or greasy walls.",
        "Masking tape keeps window frames and skirting boards clean.",
        "Most walls need two coats of paint to look even.",
    ),
    "How do I teach a dog to sit?": (
        "A treat held above the nose makes most dogs sit down.",
        "The reward must follow within a second or two.",
        "Several short lessons a day work better than one long one.",
    ),
    "How do I write a good letter of complaint?": (
        "A copy of the receipt supports the complaint.",
        "A polite letter is more likely to be answered well.",
        "The letter should say what is wanted and by what date.",
    ),
    "How do I clean a camera lens?": (
        "A blower removes loose dust without touching the glass.",
        "Grains of sand scratch the glass when they are rubbed.",
        "A microfibre cloth takes off fingerprints with small round movements.",
    ),
    "How does a fruit differ from a vegetable?": (
        "A fruit grows from the flower of a plant and holds its seeds.",
        "To a botanist a tomato is a fruit.",
        "Carrots are roots, and spinach is a leaf.",
    ),
    "How do trains differ from aeroplanes for travel?": (
        "A train journey usually causes far less carbon dioxide than a flight.",
        "Airports often lie far outside the city, stations in its centre.",
        "A passenger jet flies at about 900 kilometres an hour.",
    ),
    "How does a novel differ from a short story?": (
        "A short story can be read in one sitting.",
        "A novel has room for many characters and several plots.",
        "Edgar Allan Poe wrote short stories that aim at one single effect.",
    ),
    "How does running compare with swimming as exercise?": (
        "Water carries the body, so swimming is gentle on the joints.",
        "Running strengthens the bones because each step loads them.",
        "A runner needs only shoes, a swimmer needs a pool or a lake.",
    ),
    "What is the difference between a lake and a river?": (
        "The water of a river flows downhill in a bed.",
        "A lake lies in a hollow with land all around it.",
        "Lake Baikal in Siberia is the deepest lake on Earth.",
    ),
    "How can I remember names better?": (
        "A name said aloud right away is remembered better.",
        "A picture linked to a name gives the memory a second path.",
        "Many people forget a name because they never really heard it.",
    ),
    "What should I pack for a week by the sea?": (
        "Water and sand reflect sunlight and make sunburn more likely.",
        "Evenings by the sea can be cool and windy.",
        "Two swimsuits are useful because one can dry meanwhile.",
    ),
    "How can I get along with a difficult neighbour?": (
        "A calm talk at the door often helps more than a letter.",
        "Many quarrels between neighbours are about noise.",
        "A mediator can help when two neighbours no longer talk.",
    ),
    "What should I ask a doctor before an operation?": (
        "Every operation has risks that the doctor has to explain.",
        "Some medicines must be stopped several days before an operation.",
        "Before a general anaesthetic the stomach should be empty.",
    ),
    "How can I spend less time on my phone?": (
        "Most phones can show how long each app was used.",
        "Without notifications people pick up the phone less often.",
        "A phone that charges in the kitchen is not used in bed.",
    ),
    "Describe an old library.": (
        "Old paper smells faintly of vanilla and almonds.",
        "In some medieval libraries the books were chained to the shelves.",
        "Sunlight fades the leather of old book covers.",
    ),
    "Describe a thunderstorm over a plain.": (
        "Lightning heats the air to about 30,000 degrees.",
        "Thunder from one kilometre away is heard after three seconds.",
        "Cold wind often rushes ahead of the rain.",
    ),
    "Describe the human eye.": (
        "The pupil grows wide in the dark and narrow in bright light.",
        "The lens throws an upside-down image on the retina.",
        "Cones in the retina see colours, rods see in dim light.",
    ),
    "Describe a volcano.": (
        "Lava is molten rock that has reached the surface.",
        "Ash from a volcano can stop air traffic for days.",
        "Soil that forms from volcanic ash is often fertile.",
    ),
    "Describe a sailing boat.": (
        "The keel keeps the boat from drifting sideways.",
        "A boat sails against the wind in a zigzag course.",
        "Port is the left side of a boat and starboard the right.",
    ),
    "Tell the story of a clock that stops at midnight.": (
        "The clock stood in the hall of an old inn.",
        "A small silver key had been missing since the spring fair.",
        "Only the innkeeper's daughter heard the last stroke.",
    ),
    "Tell how people learned to use fire.": (
        "Cooked food is easier to chew and to digest.",
        "Hearths that are hundreds of thousands of years old were found in caves.",
        "Sparks from flint and pyrite can light dry tinder.",
    ),
    "Tell the story of two sisters who open a bakery.": (
        "Their grandmother left them a recipe for rye bread in her notebook.",
        "The shop had been a shoemaker's workshop before.",
        "Clara baked at night and Ines sold in the morning.",
    ),
    "Tell how the printing press changed Europe.": (
        "Gutenberg printed with movable metal type in Mainz around 1450.",
        "By 1500 presses in Europe had printed several million books.",
        "Luther's writings spread through Germany in print within weeks.",
    ),
    "Tell the story of a bird that is afraid to fly.": (
        "The bird hatched in a nest high above a waterfall.",
        "A strong gust had once thrown it against a branch.",
        "Its brother flew to the meadow every day and brought back seeds.",
    ),
    "Plan a small vegetable garden.": (
        "Radishes are ready about four weeks after sowing.",
        "Beans and peas bring nitrogen into the soil.",
        "Beds of 120 centimetres can be reached from both sides.",
    ),
    "Plan a school trip to a science museum.": (
        "The museum is closed on Mondays and asks groups to book.",
        "One adult for every ten pupils is a common rule.",
        "Pupils learn more when they have a question to answer.",
    ),
    "Plan how a family could use less electricity.": (
        "An LED lamp uses far less power than an old light bulb.",
        "Washing at 30 degrees uses less electricity than washing at 60.",
        "Devices on standby use power around the clock.",
    ),
    "Plan how to train for a ten-kilometre run.": (
        "Beginners need about ten weeks to prepare for ten kilometres.",
        "Muscles grow stronger on the days of rest.",
        "A runner should be able to talk during an easy run.",
    ),
    "Plan a surprise dinner for a friend.": (
        "The friend does not eat meat and loves mushrooms.",
        "A stew can be cooked the day before.",
        "Guests should arrive half an hour before the friend does.",
    ),
    "Why do leaves change colour in autumn?": (
        "Trees take useful nutrients out of their leaves before these fall.",
        "Yellow pigments are in the leaf all summer, hidden by the green.",
        "Short days and cool nights tell the tree that winter is near.",
    ),
    "Why do we yawn?": (
        "People yawn more often when they are tired or bored.",
        "Seeing someone else yawn makes many people yawn too.",
        "Unborn babies already yawn in the womb.",
    ),
    "Why is honesty important in business?": (
        "Customers who were cheated once rarely come back.",
        "False statements about a product can lead to fines.",
        "Partners who trust each other need fewer checks.",
    ),
    "Why do metals rust?": (
        "Rust forms when iron meets water and oxygen.",
        "Salt on the roads makes cars rust faster.",
        "Aluminium does not rust because a thin layer of oxide protects it.",
    ),
    "Why did people build castles?": (
        "A castle on a hill let its lord see enemies from afar.",
        "Thick walls protected the villagers and their cattle in a war.",
        "Cannons later made the high walls of castles useless.",
    ),
}


def sources_of(question: str) -> list[dict[str, str]]:
    """The sources of a question as ``controls.sources`` takes them. Raises KeyError for one that has none."""
    return [{"id": each_id, "text": text} for each_id, text in zip(IDS, _TEXTS[question], strict=True)]
