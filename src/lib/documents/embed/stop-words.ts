/**
 * Words that say nothing about a text: the Spanish and English lists of stopwords-iso 1.1.0, folded, only entries of
 * letters and digits, sorted. Copied because `lex-hash-v1` depends on exactly these words: with another list, vectors
 * that are stored could not be compared any more. A test holds the list to its hash.
 *
 * stopwords-iso (https://github.com/stopwords-iso/stopwords-iso), Copyright (c) 2020 Gene Diaz, MIT License: permission
 * is granted, free of charge, to any person obtaining a copy of the list, to deal in it without restriction, including
 * the rights to use, copy, modify, merge, publish, distribute, sublicense and sell copies, provided that this notice
 * is included in all copies or substantial portions. The list is provided "as is", without warranty of any kind.
 */
export const STOP_WORDS: ReadonlySet<string> = new Set(
  `
0 1 10 2 3 39 4 5 6 7 8 9 a able ableabout about above abroad abst accordance according accordingly across act
actually actualmente acuerdo ad added adelante ademas adj adopted adrede ae af affected affecting affects afirmo
after afterwards ag again against ago agrego ah ahead ahi ahora ai aint al algo algun alguna algunas alguno algunos
all alli allow allows almost alone along alongside already alrededor also although always am ambos amid amidst among
amongst amoungst amount ampleamos an anadio and announce another antano ante anterior antes any anybody anyhow
anymore anyone anything anyway anyways anywhere ao apart apenas apparently appear appreciate appropriate
approximately aproximadamente aq aquel aquella aquellas aquello aquellos aqui ar are area areas aren arent arise
around arpa arriba arribaabajo as aseguro asi aside ask asked asking asks associated at atras au aun aunque auth
available aw away awfully ayer az b ba back backed backing backs backward backwards bajo bastante bb bd be became
because become becomes becoming been before beforehand began begin beginning beginnings begins behind being beings
believe below beside besides best better between beyond bf bg bh bi bien big bill billion biol bj bm bn bo both
bottom br breve brief briefly bs bt buen buena buenas bueno buenos but buy bv bw by bz c ca cada call came can
cannot cant caption case cases casi cause causes cc cd cerca certain certainly cf cg ch changes ci cierta ciertas
cierto ciertos cinco ck cl claro clear clearly click cm cmon cn co com come comento comes como computer con
concerning conmigo conocer conseguimos conseguir consequently consider considera considering considero consigo
consigue consiguen consigues contain containing contains contigo contra copy corresponding cosas could couldn
couldnt course cr creo cry cs cu cual cuales cualquier cuando cuanta cuantas cuanto cuantos cuatro cuenta currently
cv cx cy cz d da dado dan dar dare darent date de dear debajo debe deben debido decir definitely dejo del delante
demas demasiado dentro deprisa describe described desde despacio despite despues detail detras dia dias dice dicen
dicho did didn didnt dieron diferente diferentes differ different differently dijeron dijo dio directly dj dk dm do
does doesn doesnt doing don donde done dont dos doubtful down downed downing downs downwards due durante during dz e
each early ec ed edu ee effect eg eh eight eighty either ejemplo el eleven ella ellas ello ellos else elsewhere
embargo empleais emplean emplear empleas empleo empty en encima encuentra end ended ending ends enfrente enough
enseguida entirely entonces entre er era erais eramos eran eras eres es esa esas ese eso esos especially esta estaba
estabais estabamos estaban estabas estad estada estadas estado estados estais estamos estan estando estar estara
estaran estaras estare estareis estaremos estaria estariais estariamos estarian estarias estas este esteis estemos
esten estes esto estos estoy estuve estuviera estuvierais estuvieramos estuvieran estuvieras estuvieron estuviese
estuvieseis estuviesemos estuviesen estuvieses estuvimos estuviste estuvisteis estuvo et etc even evenly ever
evermore every everybody everyone everything everywhere ex exactly example except excepto existe existen explico
expreso f face faces fact facts fairly far farther felt few fewer ff fi fifteen fifth fifty fify fill fin final find
finds fire first five fix fj fk fm fo followed following follows for forever former formerly forth forty forward
found four fr free from front fue fuera fuerais fueramos fueran fueras fueron fuese fueseis fuesemos fuesen fueses
fui fuimos fuiste fuisteis full fully further furthered furthering furthermore furthers fx g ga gave gb gd ge
general generally get gets getting gf gg gh gi give given gives giving gl gm gmt gn go goes going gone good goods
got gotten gov gp gq gr gran grandes great greater greatest greetings group grouped grouping groups gs gt gu gueno
gw gy h ha habeis haber habia habiais habiamos habian habias habida habidas habido habidos habiendo habla hablan
habra habran habras habre habreis habremos habria habriais habriamos habrian habrias hace haceis hacemos hacen hacer
hacerlo haces hacia haciendo had hadnt hago half han happens hardly has hasn hasnt hasta have haven havent having
hay haya hayais hayamos hayan hayas he hecho hed hell hello help hemos hence her here hereafter hereby herein heres
hereupon hers herself hes hi hicieron hid high higher highest him himself his hither hizo hk hm hn home homepage
hopefully horas how howbeit however hoy hr ht htm html http hu hube hubiera hubierais hubieramos hubieran hubieras
hubieron hubiese hubieseis hubiesemos hubiesen hubieses hubimos hubiste hubisteis hubo hundred i id ie if ignored
igual ii il ill im immediate immediately importance important in inasmuch inc incluso indeed index indicate
indicated indicates indico information informo inner inside insofar instead int intenta intentais intentamos
intentan intentar intentas intento interest interested interesting interests into invention inward io iq ir is isn
isnt it itd itll its itself ive j je jm jo join jp junto just k ke keep keeps kept keys kg kh ki kind km kn knew
know known knows kp kr kw ky kz l la lado large largely largo las last lately later latest latter latterly lb lc le
least lejos length les less lest let lets li like liked likely likewise line little lk ll llego lleva llevar lo long
longer longest look looking looks los low lower lr ls lt ltd lu luego lugar lv ly m ma made mainly make makes making
mal man manera manifesto many mas may maybe maynt mayor mc md me mean means meantime meanwhile mediante medio mejor
member members men menciono menos menudo merely mg mh mi mia mias microsoft mientras might mightnt mil mill million
mine minus mio mios mis misma mismas mismo mismos miss mk ml mm mn mo modo momento more moreover most mostly move mp
mq mr mrs ms msie mt mu much mucha muchas mucho muchos mug must mustnt muy mv mw mx my myself mz n na nada nadie
name namely nay nc nd ne near nearly necessarily necessary need needed needing neednt needs neither net netscape
never neverf neverless nevertheless new newer newest next nf ng ni nine ninety ningun ninguna ningunas ninguno
ningunos nl no nobody non none nonetheless noone nor normally nos nosotras nosotros not noted nothing
notwithstanding novel now nowhere np nr nu nuestra nuestras nuestro nuestros nueva nuevas nuevo nuevos null number
numbers nunca nz o obtain obtained obviously ocho of off often oh ok okay old older oldest om omitted on once one
ones only onto open opened opening opens opposite or ord order ordered ordering orders org os other others otherwise
otra otras otro otros ought oughtnt our ours ourselves out outside over overall owing own p pa page pages pais para
parece part parte parted particular particularly parting partir parts pasada pasado past pe peor per perhaps pero
pesar pf pg ph pk pl place placed places please plus pm pmid pn poca pocas poco pocos podeis podemos poder podra
podran podria podriais podriamos podrian podrias point pointed pointing points poner poorly por porque posible
possible possibly potentially pp pr predominantly present presented presenting presents presumably previously
primarily primer primera primero primeros principalmente probably problem problems promptly pronto propia propias
propio propios proud provided provides proximo proximos pt pudo pueda puede pueden puedo pues put puts pw py q qa
qeu que quedo queremos quickly quien quienes quiere quite quiza quizas qv r ran raras rather rd re readily realizado
realizar realizo really reasonably recent recently ref refs regarding regardless regards related relatively repente
research reserved respectively respecto resulted resulting results right ring ro room rooms round ru run rw s sa
sabe sabeis sabemos saben saber sabes said sal salvo same saw say saying says sb sc sd se sea seais seamos sean seas
sec second secondly seconds section see seeing seem seemed seeming seems seen sees segun segunda segundo seis self
selves senalo sensible sent ser sera seran seras sere sereis seremos seria seriais seriamos serian serias serious
seriously seven seventy several sg sh shall shant she shed shell shes should shouldn shouldnt show showed showing
shown showns shows si side sides sido siempre siendo siete significant significantly sigue siguiente similar
similarly sin since sincere sino site six sixty sj sk sl slightly sm small smaller smallest sn so sobre sois sola
solamente solas solo solos some somebody someday somehow someone somethan something sometime sometimes somewhat
somewhere somos son soon sorry soy soyos specifically specified specify specifying sr st state states still stop
strongly su sub substantially successfully such sufficiently suggest sup supuesto sure sus suya suyas suyo suyos sv
sy system sz t take taken taking tal tambien tampoco tan tanto tarde tc td te tell temprano ten tendra tendran
tendras tendre tendreis tendremos tendria tendriais tendriamos tendrian tendrias tends tened teneis tenemos tener
tenga tengais tengamos tengan tengas tengo tenia teniais teniamos tenian tenias tenida tenidas tenido tenidos
teniendo tercera test text tf tg th than thank thanks thanx that thatll thats thatve the their theirs them
themselves then thence there thereafter thereby thered therefore therein therell thereof therere theres thereto
thereupon thereve these they theyd theyll theyre theyve thick thin thing things think thinks third thirty this
thorough thoroughly those thou though thoughh thought thoughts thousand three throug through throughout thru thus ti
tiempo tiene tienen tienes til till tip tis tj tk tm tn to toda todas todavia today todo todos together too took top
total toward towards tp tr trabaja trabajais trabajamos trabajan trabajar trabajas trabajo tras trata traves tres
tried tries trillion truly try trying ts tt tu turn turned turning turns tus tuve tuviera tuvierais tuvieramos
tuvieran tuvieras tuvieron tuviese tuvieseis tuviesemos tuviesen tuvieses tuvimos tuviste tuvisteis tuvo tuya tuyas
tuyo tuyos tv tw twas twelve twenty twice two tz u ua ug uk ultima ultimas ultimo ultimos um un una unas under
underneath undoing unfortunately unless unlike unlikely uno unos until unto up upon ups upwards us usa usais usamos
usan usar usas use used useful usefully usefulness uses using uso usted ustedes usually uucp uy uz v va vais valor
value vamos van varias varios various vaya vc ve veces ver verdad verdadera verdadero versus very vez vg vi via viz
vn vol vols vosotras vosotros voy vs vu vuestra vuestras vuestro vuestros w want wanted wanting wants was wasn wasnt
way ways we web webpage website wed welcome well wells went were weren werent weve wf what whatever whatll whats
whatve when whence whenever where whereafter whereas whereby wherein wheres whereupon wherever whether which
whichever while whilst whim whither who whod whoever whole wholl whom whomever whos whose why widely width will
willing wish with within without won wonder wont words work worked working works world would wouldn wouldnt ws www x
y ya ye year years yes yet yo you youd youll young younger youngest your youre yours yourself yourselves youve yt yu
z za zero zm zr
`
    .trim()
    .split(/\s+/),
);
