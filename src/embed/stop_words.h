/*
 * stop_words.h - words that say nothing about what a text is about: the commonest of eight European languages.
 * Left out are those that mean something in another of them (war, hat, man, os, dos).
 *
 * Folded as words.c folds (no accents), separated by spaces. Part of hash-384: changing it changes the model's version.
 */
#ifndef QUIRE_EMBED_STOP_WORDS_H
#define QUIRE_EMBED_STOP_WORDS_H

static const char stop_words[] =
    /* English */
    "a about above after again against all also although always am among an and another any are around as at be became "
    "because become been before being below between both but by can cannot could did do does doing done down during each "
    "either else etc even ever every few for from further get gets give given go goes got had has have having he hence her "
    "here hers him his how however i if in into is it its itself just know least less let like made make makes many may me "
    "might more most much must my neither no nor not now of off often on once one only onto or other others our out over "
    "own per perhaps quite rather really same see seem seems several shall she should since so some such take than that the "
    "their them then there these they this those through thus to together too toward two under until up upon us use used "
    "uses using various very via was we well were what when where whether which while who whom whose why will with within "
    "without would yet you your "
    /* German */
    "aber als auch auf aus bei bis da dann das dass dem den der des die dies diese dieser doch durch ein eine einem einen "
    "einer eines er es fur ich ihr im ist kann mehr mit nach nicht noch nur ob oder sein sich sie sind uber um und "
    "unter vom von vor wenn werden wie wir wird zu zum zur "
    /* French */
    "au aux avec ce ces cette comme dans de du elle en est et il ils la le les leur lui mais ne nous ou par pas plus pour "
    "qu que qui sa sans se ses si son sont sur un une vous "
    /* Spanish */
    "al como con del el ella esta este las lo los mas o para pero por sin su sus una y "
    /* Italian */
    "alla che dal dei della delle di e gli nel non piu sono "
    /* Dutch */
    "aan dat door een het hij met naar niet om ook op te tot uit van voor wat werd wordt ze zijn "
    /* Portuguese */
    "ao com em na nas nos pela pelo sem sua uma "
    /* Russian */
    "а без был была были было быть в во вот все для до его ее если есть же за и из или их к как когда ко ли мы на не него "
    "но о об от по при с со так также то только у что чтобы это я";

#endif
