/*
 * stop_words.c - words that say nothing about what a text is about, for the languages where a short list is easily agreed on. They are written as people
 * write them: the analyzer folds them as it folds texts. Part of what a library's postings hold: a change asks for a rebuild of the indexes.
 */
#include "text/language.h"

struct stop_list {
    const char *language;
    const char *words;
};

static const struct stop_list lists[] = {
    {"danish", "ad af alle alt anden at blev blive bliver da de dem den denne der deres det dette dig din disse dog du "
               "efter eller en end er et for fra ham han hans har havde have hende hendes her hos hun hvad hvis hvor i "
               "ikke ind jeg jer kan kunne man mange med meget men mig min mine mit mod må ned noget nogle nu når og "
               "også om op os over på selv sig sin sine sit skal skulle som sådan til ud under var vi vil ville være "},
    {"dutch", "aan al alles als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus een en er ge "
              "geen haar had heb hebben heeft hem het hier hij hoe hun iemand iets ik in is ja je kan kon kunnen maar me "
              "meer men met mij mijn moet na naar niet niets nog nu of om omdat onder ons ook op over reeds te tegen "
              "toch toen tot u uit uw van veel voor want waren was wat we werd wezen wie wij wil worden wordt zal ze "
              "zelf zich zij zijn zo zonder zou "},
    {"english", "a about above after again against all also am an and any are aren't as at be because been before being "
                "below between both but by can can't cannot could couldn't did didn't do does doesn't doing don't down "
                "during each few for from further had hadn't has hasn't have haven't having he her here hers herself him "
                "himself his how i i'd i'll i'm i've if in into is isn't it it's its itself just let's me more most my "
                "myself no nor not of off on once only or other our ours ourselves out over own same she should shouldn't "
                "so some such than that that's the their theirs them themselves then there there's these they they're this "
                "those through to too under until up very was wasn't we we're were weren't what what's when where which "
                "while who who's whom why will with won't would wouldn't you you're your yours yourself yourselves "},
    {"finnish", "ei eivät emme en et että he hän häne hänen häntä ja jo joka jos jotka kanssa ketä koska kuin kuka "
                "kun me mikä minkä minun minä mitä mukaan mutta myös ne niiden niin niitä noin nyt näiden nämä "
                "ole olen olet oli olivat olla on ovat se sekä sen siellä siinä sinä sitä tai te tuo tämä tämän "
                "tässä vaan vai vain "},
    {"french", "a ai aie ainsi alors as au aucun aussi autre aux avait avec avez avoir avons c c'est car ce cela celle "
               "celles celui ces cet cette ceux chaque ci comme d dans de des donc dont du elle elles en encore entre est "
               "et eu eux fait il ils j je l la le les leur leurs lui m ma mais me mes moi mon même n ne ni nos notre "
               "nous on ont ou où par pas peu peut plus pour pourquoi qu quand que quel quelle quelles quels qui s sa "
               "sans se sera ses si soit son sont sous sur t ta te tes toi ton tous tout toute toutes très tu un une vos "
               "votre vous y étaient était étant être "},
    {"german", "aber alle allem allen aller alles als also am an auch auf aus bei bin bis bist da damit dann das dass "
               "daß dein deine dem den denn der des dessen die dies diese diesem diesen dieser dieses doch dort du durch "
               "ein eine einem einen einer eines er es etwas euch euer für gegen hab habe haben hat hatte hatten hier "
               "hinter ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in indem ins ist jede jedem jeden jeder jedes jene "
               "jetzt kann kein keine keinem keinen keiner können könnte man manche mehr mein meine mich mir mit muss "
               "nach nicht nichts noch nun nur ob oder ohne sehr sein seine seinem seinen seiner sich sie sind so solche "
               "soll sollte sondern um und uns unser unter viel vom von vor war waren warum was weil welche welcher wenn "
               "wer werde werden wie wieder will wir wird wo wurde wurden zu zum zur zwar zwischen über "},
    {"italian", "a abbiamo ad agli ai al alla alle allo anche anzi avere aveva c che chi ci co coi col come con contro cui "
                "da dagli dai dal dalla dalle dallo de degli dei del della delle dello dentro di do dove e ed era erano "
                "essere fra fu gli ha hanno ho i il in io l la le lei li lo loro lui ma me mentre mi mia mio ne negli nei "
                "nel nella nelle nello no noi non nostra nostro o od ogni per perché però più poi qual quale quali "
                "quando quanto quella quelle quelli quello questa queste questi questo se sei si sia siamo siete solo sono "
                "sopra sotto sta stata stato su sua sue sugli sui sul sulla sulle sullo suo suoi te ti tra tu tua tuo "
                "tutti tutto un una uno vi voi è "},
    {"norwegian", "alle at av bare begge ble blei bli blir både da de deg dem den denne der dere deres det dette di din "
                  "disse du eller en enn er et ett etter for fordi fra før ha hadde han hans har henne hennes her hos hun "
                  "hva hvem hver hvilken hvis hvor hvordan hvorfor i ikke ingen inn ja jeg kan kom kunne man mange med meg "
                  "men mens mer min mitt mot mye må ned nei noe noen nå når og også om opp oss over på sa seg selv sin "
                  "sine sitt skal skulle slik som så til ut uten var vi vil ville vær være "},
    {"portuguese", "a ao aos aquela aquelas aquele aqueles aquilo as até com como da das de dela delas dele deles depois do "
                   "dos e ela elas ele eles em entre era eram essa essas esse esses esta estas este estes está estão eu foi "
                   "foram há isso isto já lhe lhes mais mas me mesmo meu meus minha muito na nas nem no nos nossa nosso num "
                   "numa não nós o os ou para pela pelas pelo pelos por porque qual quando que quem se seja sem ser será "
                   "seu seus somos sua suas são só também te tem teu tua tudo têm um uma você vocês à às é "},
    {"russian", "а без более бы был была были было быть в вам вас весь во "
                "вот все всего всех всё вы где да для до его ее если есть "
                "еще ещё её же за здесь и из или им их к как ко когда кто ли "
                "либо мне может мы на над надо не него нее нет неё ни них но "
                "ну о об однако он она они оно от по под при с со так также "
                "такой там то того тоже той только том ты у уже хотя чего "
                "чей чем что чтобы чье чья эта эти это этого этой этот я "},
    {"spanish", "a al algo algunas algunos ante antes aquel aquella aquellos aunque como con contra cual cuando de del "
                "desde donde durante e el ella ellas ellos en entre era eran eres es esa esas ese eso esos esta estas este "
                "esto estos está están fue fueron ha había han has hasta hay he la las le les lo los me mi mientras mis "
                "mucho muy más mí nada ni no nos nosotros nuestra nuestro o os otra otras otro otros para pero poco por "
                "porque que quien quién qué se sea ser si sido sin sobre son soy su sus sí también tan tanto te tiene "
                "tienen todo todos tu tus tú un una uno unos y ya yo él "},
    {"swedish", "alla allt att av blev bli blir de dem den denna deras dess dessa det detta dig din dina ditt du efter ej "
                "eller en er era ett från för ha hade han hans har henne hennes hon honom hur i icke inom inte jag ju "
                "kan kunde man med mellan men mig min mina mitt mot mycket ni nu när någon något några och om oss på "
                "samma sedan sig sin sina sitt själv ska skulle som så sådan sådana till under upp ut utan vad var "
                "vara varför vart vem vi vid vilka vilken vilket än är "},
};

static const struct stop_list elisions[] = {
    {"catalan", " d l m n s t "},
    {"french", " c d j jusqu l lorsqu m n puisqu qu quoiqu s t "},
    {"italian", " agl all anch c coll d dagl dall degl dell gl l m nell quell quest s sugl sull t un v "},
};

static const char *listed(const struct stop_list *of, size_t count, const char *canonical) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(of[i].language, canonical) == 0) {
            return of[i].words;
        }
    }
    return "";
}

const char *language_elisions(const char *canonical) {
    return listed(elisions, sizeof elisions / sizeof *elisions, canonical);
}

const char *language_stop_words(const char *canonical) {
    return listed(lists, sizeof lists / sizeof *lists, canonical);
}
