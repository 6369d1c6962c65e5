"""Minimal pairs made by a small grammar: English sentences in the words of presidents, one acceptable, one not.

Neither length nor the frequency of words tells which: the same exchange of words that spoils one sentence repairs another
(mirrored pairs), or both sentences have the same words. In a template, {a|b} marks what differs within a pair and <a|b> what
differs between a pair and its mirror:

    The <law|laws> {is|are} new.        The law is new.      The law are new.
                                        The laws are new.    The laws is new.
    We live {in this|this in} country.  We live in this country.  We live this in country.

The phenomena are those of BLiMP (Warstadt et al. 2020, arXiv:1912.00582) and of Marvin and Linzen 2018, arXiv:1808.09031.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from string import Template

import numpy as np

from lmx.data.noise import generator

# slot -> entries; an entry's words fill the names of the slot: $person, $persons
LEXICON = {
    "person persons": "leader leaders, governor governors, soldier soldiers, citizen citizens, farmer farmers, "
    "worker workers, friend friends, officer officers, member members, judge judges, agent agents, minister ministers, "
    "child children, neighbor neighbors, student students, merchant merchants, commander commanders, teacher teachers, "
    "representative representatives, senator senators",
    "man men woman women": "man men woman women, son sons daughter daughters, boy boys girl girls, "
    "father fathers mother mothers, brother brothers sister sisters",
    "thing things": "law laws, bill bills, treaty treaties, plan plans, program programs, report reports, "
    "measure measures, question questions, letter letters, contract contracts, policy policies, rule rules, "
    "resolution resolutions, proposal proposals, message messages, demand demands",
    "place places": "city cities, country countries, state states, town towns, school schools, house houses, "
    "nation nations, office offices, department departments, community communities",
    "mood": "strong, free, proud, ready, honest, wise, safe, loyal, able, brave, happy, poor, rich, present, late, right",
    "quality": "new, great, good, old, important, large, small, public, simple, useful, wise, strong, final, special",
    "trust trusts trusted trusting": "trust trusts trusted trusting, support supports supported supporting, "
    "defend defends defended defending, help helps helped helping, thank thanks thanked thanking, "
    "protect protects protected protecting, visit visits visited visiting, serve serves served serving, "
    "follow follows followed following, join joins joined joining, meet meets met meeting",
    "write wrote written": "write wrote written, make made made, take took taken, choose chose chosen, "
    "bring brought brought, keep kept kept, send sent sent, give gave given, hold held held, "
    "break broke broken, forget forgot forgotten",
    "needed": "needed, described, received, wanted, found, made, took, brought",
    "know": "know, remember, understand, see, hear, learn",
    "knows": "knows, remembers, understands, sees, learns, finds",
    "he him": "he him, they them, I me, we us",
    "time": "in those days, at that time, in this hour, for many years, on that day, in the last year, this year",
    "ever": "ever failed, ever been changed, any value, any force, ever been of any use, ever passed",
    "doubt": "any doubt, any hope, any rights, ever been here, ever been free, ever failed",
}
TEMPLATES = {
    "subject_verb_agreement": [
        "The <$person|$persons> {is|are} $mood.",
        "The <$person|$persons> {was|were} $mood $time.",
        "The $quality <$thing|$things> {has|have} come from the $place.",
        "We $know that the <$person|$persons> {$trusts|$trust} the $place.",
    ],
    "agreement_attractor": [
        "The <$person|$persons> of the $quality <$places|$place> {is|are} $mood.",
        "The $quality <$thing|$things> of the <$places|$place> {has|have} come too late.",
        "The <$person|$persons> that the <$persons2|$person2> <$trust|$trusts> {was|were} $mood.",
        "The <$person|$persons> who $trusted the <$persons2|$person2> {is|are} $mood.",
    ],
    "determiner_noun_agreement": [
        "We $know that <this|these> {$thing|$things} came too late.",
        "The $person wanted <this|these> $quality {$thing|$things} $time.",
        "The $person $trusts <every|many> $quality {$person2|$persons2} of the $place.",
        "The $place needs <one|two> $quality {$person|$persons} $time.",
    ],
    "verb_form": [
        "The $person <has|must> {$written|$write} a $thing.",
        "The $persons <have|will> never {$written|$write} the $quality $thing.",
        "The $thing that the $person <had|did not> {$written|$write} was $quality.",
        "We $know that the $persons of the $place <had|would> {$written|$write} a $thing.",
    ],
    "reflexive": [
        "The <$man|$woman> has $trusted {himself|herself} $time.",
        "The <$man|$men> who $trusted the <$women|$woman> $trusted2 {himself|themselves}.",
        "The <$man|$men> of the <$places|$place> {himself|themselves} $wrote the $thing.",
        "We $know that the <$man|$woman> who $trusted the <$woman|$man> $trusted2 {himself|herself}.",
    ],
    "pronoun_case": [
        "We $know that <{$he|$him} $trusted the $person|the $person $trusted {$he|$him}> $time.",
        "The $person $knows that <{$he|$him} $wrote the $thing for the $person2|the $person2 $wrote the $thing for {$he|$him}>.",
    ],
    "negative_polarity": [
        "We $know that {no|the} $thing that {the|no} $person $wrote has $ever.",
        "It is true that {no|the} $person who $trusted {the|no} $persons2 has $doubt.",
        "They say that the $person who {was here has not|was not here has} ever $written the $thing.",
    ],
    "filler_gap": [
        "We $know {what|that} the $person $needed<| the $thing> $time.",
        "The $person $knows {what|that} the $person2 of the $place $needed<| the $thing>.",
        "It is clear {who|that} the $persons of the $place $needed<| the $persons2> $time.",
    ],
    "island": [
        "Who did the $person $trust {after $trusting2 the $person2|the $person2 after $trusting2}?",
        "What did the $person {and the $person2 of the $place want|want and the $person2 of the $place}?",
        "Who did the $person {who $trusted2 the $person2 $trust|who $trusted2 $trust the $person2}?",
        "Who does the $person {who $knows the $thing $trust|who $knows $trust the $thing}?",
    ],
    "word_order": [
        "The $person {has $written the $thing|the $thing has $written} $time.",
        "What {has the $person of the $place|the $person of the $place has} $written?",
        "We have found many $persons {in this|this in} $place.",
        "The {$quality $thing|$thing $quality} has come before the $place.",
        "The $person of the $place {did not|not did} $write the $thing.",
    ],
}  # fmt: skip
WITHIN, BETWEEN = re.compile(r"\{(.*?)\|(.*?)\}"), re.compile(r"<(.*?)\|(.*?)>")
PATIENCE = 100  # sentences that were there before, in a row, until a phenomenon has no more


@dataclass(frozen=True, kw_only=True)
class Pair:
    phenomenon: str
    good: str
    bad: str


def embedded(most: int) -> Iterator[Pair]:
    """At most so many pairs of each phenomenon, always the same; each mirror is there with its pair."""
    for phenomenon, templates in TEMPLATES.items():
        rng, seen, count, misses, turn = generator(0, phenomenon), set(), 0, 0, 0
        while misses < PATIENCE:
            pairs = written(templates[turn % len(templates)], rng)
            turn += 1
            if count + len(pairs) > most:
                break
            if pairs[0] in seen:
                misses += 1
                continue
            misses, count = 0, count + len(pairs)
            seen.update(pairs)
            yield from (Pair(phenomenon=phenomenon, good=good, bad=bad) for good, bad in pairs)


def written(template: str, rng: np.random.Generator) -> list[tuple[str, str]]:
    """(acceptable, not acceptable), and its mirror where the template has one."""
    sentence = Template(template).substitute(words(rng))
    if not BETWEEN.search(sentence):
        return [(choose(sentence, 0, 0), choose(sentence, 1, 0))]
    return [(choose(sentence, 0, 0), choose(sentence, 1, 0)), (choose(sentence, 1, 1), choose(sentence, 0, 1))]


def words(rng: np.random.Generator) -> dict[str, str]:
    """Name -> word; $person2 is another person than $person."""
    found = {}
    for slot, entries in LEXICON.items():
        names, options = slot.split(), entries.split(", ")
        for ending, place in zip(("", "2"), rng.permutation(len(options)), strict=False):
            forms = options[place].split(" ", len(names) - 1)
            found |= {f"{name}{ending}": form for name, form in zip(names, forms, strict=True)}
    return found


def choose(sentence: str, within: int, between: int) -> str:
    """The first (0) or second (1) of the choices of each kind."""
    return BETWEEN.sub(lambda found: found[1 + between], WITHIN.sub(lambda found: found[1 + within], sentence))
