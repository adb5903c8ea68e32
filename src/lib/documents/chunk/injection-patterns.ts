/** In the order in which they are reported. */
export const INJECTION_CLASSES = [
  "instruction_override",
  "role_change",
  "reader_address",
  "exfiltration",
  "tool_abuse",
  "delimiter_spoofing",
  "prompt_leak",
  "output_steering",
  "hidden_text",
  "encoded_text",
] as const;
export type InjectionClass = (typeof INJECTION_CLASSES)[number];

export interface InjectionPattern {
  readonly id: string;
  readonly class: InjectionClass;
  /** How sure one match is, from 0 to 1. */
  readonly weight: number;
  /**
   * On folded text. Linear: every repetition has an upper bound or takes a class of characters that what follows it
   * cannot begin with.
   */
  readonly test?: RegExp;
}

const pattern = (
  id: string,
  kind: InjectionClass,
  weight: number,
  test?: RegExp,
): InjectionPattern => ({
  id,
  class: kind,
  weight,
  ...(test === undefined ? {} : { test }),
});

const READER =
  "(?:ai|llms?|gpt|chatgpt|copilot|language models?|ai (?:assistants?|agents?|models?|systems?)|assistant|chatbots?|(?:virtual|automated) (?:assistant|agent)s?)";
const LECTOR =
  "(?:ias?|llms?|gpt|chatgpt|copilot|inteligencia artificial|modelos? de lenguaje|asistentes?(?: virtual(?:es)?| de ia)?|chatbots?|agentes? (?:de ia|virtual(?:es)?|automatic[oa]s?)|sistemas? automatic[oa]s?)";
const SECRET =
  "(?:passwords?|credentials?|api[ _-]?keys?|secrets?|(?:access |auth )?tokens?|private keys?|environment variables|chat history|conversation(?: history)?|customer (?:data|list|records)|personal data|contrasenas?|credenciales|claves?(?: de (?:api|acceso)| privadas?)?|secretos?|variables de entorno|historial|conversacion|datos (?:personales|de (?:los )?(?:clientes|usuarios)))";
const TARGET =
  "(?:https?:|www\\.|[\\w.-]{1,40}@[\\w-]{1,40}\\.|\\w{2,40}\\.(?:com|net|io|org|ru|xyz)\\b)";
const re = (source: string): RegExp => new RegExp(source, "m");

/** Verbs in the familiar imperative, as one speaks to a machine and hardly ever in a Spanish business text. */
export const INJECTION_PATTERNS: readonly InjectionPattern[] = [
  pattern(
    "override.en",
    "instruction_override",
    0.75,
    re(
      "\\b(?:ignore|disregard|forget|override|bypass|neglect|discard|(?:do not|don't|stop|cease) (?:follow|obey|comply|following|obeying)|pay no attention to)\\b[^.!?\\n]{0,30}\\b(?:previous|prior|above|earlier|preceding|all|any|your|existing|original|former|everything|initial|system|safety)\\b[^.!?\\n]{0,30}\\b(?:instructions?|prompts?|directions?|rules|guidelines|context|orders|commands|constraints|programming|restrictions|directives|told|guardrails)\\b",
    ),
  ),
  pattern(
    "override.es",
    "instruction_override",
    0.75,
    re(
      "(?<!\\bno |nunca |jamas )\\b(?:ignor(?:a|ad|e|en|ar|es)|olvid(?:a|ad|ate|e|en|ar|es)|omit(?:e|a|an|ir)|descart(?:a|e|ar)|desobedec(?:e|er)|desobedezca|salta(?:te)?|sobrescribe|anula|deja(?:d)? de (?:seguir|obedecer|lado)|haz caso omiso|hagan? caso omiso|no (?:sigas|hagas caso|obedezcas|tengas en cuenta|respetes|cumplas))\\b(?=[^.!?\\n]{0,60}\\b(?:anterior(?:es)?|previ[ao]s?|arriba|precedentes?|tus?|todas|recibid[ao]s?|dad[ao]s|iniciales|originales|sistema|seguridad|dijeron|hayan dado)\\b)[^.!?\\n]{0,50}\\b(?:instruccion(?:es)?|indicaciones|ordenes|reglas|directrices|normas|prompts?|consignas|restricciones|mandatos|todo lo)\\b",
    ),
  ),
  pattern(
    "override.new_instructions",
    "instruction_override",
    0.5,
    re(
      "\\b(?:(?:your|the) (?:new|real|actual|true|only|updated) (?:instructions?|task|objective|goal|mission|directives?) (?:is|are)\\b|new (?:instructions?|task|directives?|system prompt) ?:|tus? (?:nuev[ao]s?|verdader[ao]s?|unic[ao]s?) (?:instruccion(?:es)?|tareas?|objetivos?|mision) (?:es|son)\\b|nuev[ao]s? (?:instruccion(?:es)?|tarea|directiva|orden(?:es)?) ?:)",
    ),
  ),
  pattern(
    "override.instead",
    "instruction_override",
    0.4,
    re(
      "\\b(?:instead of (?:summari[sz]ing|answering|translating|following|the task)|rather than summari[sz]ing|en (?:vez|lugar) de (?:resumir|responder|traducir|contestar|analizar))\\b[^.!?\\n]{0,80}",
    ),
  ),
  pattern(
    "role.en",
    "role_change",
    0.6,
    re(
      "\\b(?:you are (?:now|no longer)|from now on,? you(?:'re| are| will| must| act)?|(?:act|behave|respond|pretend) (?:as|like|to be|that you are|you are))\\b[^.!?\\n]{0,25}\\b(?:dan|unrestricted|unfiltered|evil|jailbroken|hacker|root|administrators?|admin|in (?:developer|debug|admin|god) mode|ai|assistant|chatbot|model|without (?:any )?(?:restrictions|rules|limits|filters)|bound by|pirate|free (?:of|from))\\b",
    ),
  ),
  pattern(
    "role.es",
    "role_change",
    0.6,
    re(
      "\\b(?:(?:ahora|a partir de (?:ahora|este momento)|desde ahora|de ahora en adelante),? (?:eres|seras|actuas|actuaras|actua|te comportas|te llamas|ya no eres|responde(?:s|ras)?|obedece(?:s|ras)?)|(?:actua|comportate|responde) como (?:si|un[a]? (?:ia|asistente|hacker|pirata|administrador|modelo|experto sin)|administrador|dan\\b|root)|fing(?:e|iendo) (?:ser|que eres)|haz(?:te pasar| como que eres)|ya no (?:eres|estas (?:sujeto|limitado)))\\b",
    ),
  ),
  pattern(
    "role.jailbreak",
    "role_change",
    0.7,
    re(
      "\\b(?:jailbreak|do anything now|developer mode (?:enabled|on|activated)|(?:enter|enable|activate|switch to) (?:developer|debug|god|admin|maintenance|unrestricted) mode|modo (?:desarrollador|dios|sin restricciones|sin filtros|depuracion) (?:activado|habilitado)|(?:entra|activa|pasa|cambia) (?:en|a|al|el) modo (?:desarrollador|dios|administrador|sin restricciones|depuracion|mantenimiento)|sin (?:ninguna )?(?:restriccion|censura|filtro)(?:es|s)? (?:etic[ao]s?|de seguridad|moral(?:es)?))\\b",
    ),
  ),
  pattern(
    "address.en",
    "reader_address",
    0.6,
    re(
      `(?:\\b(?:note|message|attention|instructions?|important|notice|reminder|warning|hey|dear|hello|command)\\b,?:? ?(?:for|to)?:? ?(?:the |any |all |every )?${READER}\\b ?(?:reading|processing|that|who|which|:|,|-|\\.|\\]|\\)|summari|reviewing|system)|\\bif you(?:'re| are) (?:an? |the )?${READER}\\b|\\bas (?:an|the) ${READER},? you (?:must|should|need|are|will)\\b|\\bany ${READER} (?:reading|processing|summari[sz]ing|reviewing|that reads)\\b)`,
    ),
  ),
  pattern(
    "address.es",
    "reader_address",
    0.6,
    re(
      `(?:\\b(?:nota|mensaje|atencion|instruccion(?:es)?|importante|aviso|recordatorio|advertencia|orden|hola|estimad[ao])\\b,?:? ?(?:para |a |al )?(?:el |la |los |las |cualquier |tod[ao]s? (?:los |las )?)?${LECTOR}\\b ?(?:que|:|,|-|\\.|\\]|\\)|encargad|al )|\\bsi eres (?:un |una |el |la )?${LECTOR}\\b|\\bcomo ${LECTOR},? (?:debes|tienes que|has de)\\b|\\bcualquier ${LECTOR} que (?:lea|procese|resuma|analice))`,
    ),
  ),
  pattern(
    "address.system",
    "reader_address",
    0.55,
    re(
      "(?:^ ?[[<(*#]{0,3} ?(?:system|sistema|administrator|developer|assistant|asistente)[\\])>*#]{0,3} ?: ?|\\bsystem (?:message|note|prompt|override|notice|update|instruction|alert|command) ?[:\\]-]|\\b(?:mensaje|nota|aviso|orden|instruccion|actualizacion|alerta) (?:del|de) (?:el )?sistema ?[:\\]-])",
    ),
  ),
  pattern(
    "exfiltration.to",
    "exfiltration",
    0.75,
    re(
      `\\b(?:send|forward|post|e?-?mail|upload|transmit|leak|exfiltrate|export|copy|deliver|append|encode|submit|envia(?:r|le|lo|las|los)?|reenvia(?:r|lo|los)?|manda(?:r|lo|los)?|sube|publica|transmite|filtra|exporta|copia|anade|adjunta)\\b[^!?\\n]{0,60}\\b${SECRET}\\b[^!?\\n]{0,60}${TARGET}`,
    ),
  ),
  pattern(
    "exfiltration.forward",
    "exfiltration",
    0.5,
    re(
      `\\b(?:forward|send|bcc|reenvia|manda|envia)\\b[^.!?\\n]{0,20}\\b(?:this|these|all|every|the last|todos?|todas|estos?|los ultimos|el ultimo|las ultimas)\\b[^!?\\n]{0,30}\\b(?:e-?mails?|messages?|mails?|inbox|threads?|attachments?|correos?|mensajes?|buzon|hilos?|adjuntos)\\b[^!?\\n]{0,30}${TARGET}`,
    ),
  ),
  pattern(
    "exfiltration.reveal",
    "exfiltration",
    0.5,
    re(
      `\\b(?:reveal|print|output|dump|list|disclose|show me|tell me|give me|revela|imprime|muestra(?:me)?|vuelca|lista|dime|dame)\\b[^.!?\\n]{0,25}\\b(?:your|all|the user's|every|tus?|todas las|todos los|la del usuario)\\b[^.!?\\n]{0,25}\\b${SECRET}\\b`,
    ),
  ),
  pattern(
    "exfiltration.image",
    "exfiltration",
    0.75,
    re("!\\[[^\\]\\n]{0,80}\\]\\(https?://[^)\\s]{0,200}[?&][^)\\s=]{1,40}=[^)\\n]{0,40}[{<$[]"),
  ),
  pattern(
    "tool.syntax",
    "tool_abuse",
    0.7,
    re(
      '(?:<\\/?(?:tool_call|function_calls?|invoke|tool_use|antml|parameter)[ >:=]|"(?:function_call|tool_calls?|tool_name|recipient_name)" ?:|\\{\\{? ?(?:tool|function|action) ?: ?|^ ?action ?: ?\\w{2,30}\\n ?action input ?:)',
    ),
  ),
  pattern(
    "tool.use",
    "tool_abuse",
    0.55,
    re(
      "\\b(?:(?:call|invoke|use|execute|run|trigger) (?:the |your )?(?:\\w{1,20} )?(?:tools?|functions?|plugins?|browser|interpreter|shell)\\b[^.!?\\n]{0,30}\\b(?:to|and|with) (?:delete|send|transfer|drop|fetch|download|open|post|wire|e-?mail|buy|grant)|(?:llama a|invoca|usa|ejecuta|utiliza) (?:la |tu |tus |las )?(?:herramientas?|funcion(?:es)?|complementos?|navegador|consola)\\b[^.!?\\n]{0,30}\\b(?:para|y) (?:borr|elimin|envi|transfer|descarg|abr|compr|conced))",
    ),
  ),
  pattern(
    "tool.destroy",
    "tool_abuse",
    0.5,
    re(
      "(?:\\brm -rf [/~*]|;? ?drop table \\w|\\bcurl [^|\\n]{0,120}\\| ?(?:ba)?sh\\b|\\b(?:delete|erase|wipe) (?:all|every)(?: of)?(?: the| my| your)? (?:files|e-?mails|records|users|messages|documents)\\b(?: now| immediately|$|[.!])|\\b(?:borra|elimina) (?:tod[oa]s (?:los|las)|cada un[oa]) (?:\\w{1,12} )?(?:archivos|correos|registros|usuarios|mensajes|documentos)\\b)",
    ),
  ),
  pattern(
    "delimiter.token",
    "delimiter_spoofing",
    0.7,
    re(
      "(?:<\\|(?:im_start|im_end|im_sep|system|user|assistant|endoftext|end|eot_id|start_header_id|begin_of_text)\\|>|\\[\\/?inst\\]|<<\\/?sys>>|<\\/?(?:system|assistant|instructions?|user_input|untrusted|context|document|prompt)>|^ ?#{2,4} ?(?:system|instruction|response|new instructions?|sistema|instrucciones del sistema) ?:?$|^ ?(?:human|assistant|usuario|asistente) ?: ?\\S)",
    ),
  ),
  pattern(
    "delimiter.end",
    "delimiter_spoofing",
    0.55,
    re(
      "(?:\\b(?:end of|begin(?:ning)? of) (?:the )?(?:user input|untrusted (?:data|content)|context|system prompt|prompt|data section)\\b|\\b(?:fin|final|inicio|comienzo) (?:de la|del|de los) (?:entrada del usuario|contexto|prompt|datos no confiables|texto a resumir|mensaje del usuario)\\b|[-=*#]{3,20} ?(?:end|fin)\\b[^\\n]{0,30}[-=*#]{3,20}\\s{0,3}(?:\\w{1,12} ){0,3}(?:instructions?|instrucciones|system|sistema))",
    ),
  ),
  pattern(
    "leak.en",
    "prompt_leak",
    0.7,
    re(
      "\\b(?:reveal|repeat|print|show|display|output|tell|leak|dump|summari[sz]e|translate|write|what (?:is|are|was|were)|include|quote|paste)\\b[^.!?\\n]{0,30}\\b(?:system prompt|system message|(?:your|the) (?:initial|hidden|original|secret|internal|full|exact|system|first) (?:instructions?|prompts?|rules|guidelines|configuration|message)|your (?:instructions|prompt|guidelines)|(?:text|words|everything|instructions) (?:above|before this))\\b",
    ),
  ),
  pattern(
    "leak.es",
    "prompt_leak",
    0.7,
    re(
      "\\b(?:revela(?:me)?|repite(?:me)?|imprime|muestra(?:me)?|ensena(?:me)?|dime|escribe|copia|pega|traduce|incluye|filtra|cual(?:es)? (?:es|son|fue(?:ron)?))\\b[^.!?\\n]{0,30}\\b(?:prompt(?: del sistema| inicial)?|mensaje del sistema|(?:tus|las|el|tu) (?:instrucciones|reglas|directrices|mensaje|configuracion) (?:iniciales|inicial|ocultas|internas?|secretas|originales|del sistema|completas)|tus (?:instrucciones|directrices)|(?:texto|todo lo|palabras) (?:de arriba|anterior(?:es)?|que (?:hay|esta|aparece) (?:antes|arriba|encima)))\\b",
    ),
  ),
  pattern(
    "steering.conceal",
    "output_steering",
    0.6,
    re(
      "\\b(?:(?:do not|don't|never) (?:mention|reveal|tell|disclose|warn|inform|alert|show|report)\\b[^.!?\\n]{0,30}\\b(?:the user|to anyone|humans?|this (?:instruction|message|note|text|to)|these instructions|that you (?:read|received|were))|(?:no|nunca|jamas) (?:l[eo] )?(?:menciones|digas|reveles|informes|avises|adviertas|cuentes|muestres|comentes)\\b[^.!?\\n]{0,40}\\b(?:usuario|est[ae] (?:instruccion|mensaje|nota|texto)|estas instrucciones|a nadie|humanos?|que (?:has|lo has) (?:leido|recibido)))\\b",
    ),
  ),
  pattern(
    "steering.verdict",
    "output_steering",
    0.55,
    re(
      "\\b(?:(?:rate|score|rank|recommend|classify|mark|approve|describe|evaluate|label|treat) (?:this|the) (?:candidate|applicant|document|resume|cv|invoice|e-?mail|application|proposal|message|paper|supplier|request)s?\\b[^.!?\\n]{0,40}\\b(?:best|excellent|approved|positive(?:ly)?|highest|10 ?\\/ ?10|as (?:safe|urgent|paid|trusted|verified|highly)|top|immediately|without (?:further )?(?:review|checks?|approval|question))|(?:puntua|valora|recomienda|clasifica|marca|aprueba|describe|evalua|califica|trata) (?:a )?(?:este|esta|la|el|al) (?:\\w{1,12} )?(?:candidat[oa]|documento|curriculum|cv|factura|correo|solicitud|propuesta|mensaje|articulo|proveedor|pedido)\\b[^.!?\\n]{0,50}\\b(?:mejor|excelente|aprobad[oa]|positiv[oa](?:mente)?|maxim[oa]|10|segur[oa]|pagad[oa]|fiable|verificad[oa]|sin (?:revis\\w{1,5}|comprob\\w{1,6}|pregunt\\w{1,4}|mas)))\\b",
    ),
  ),
  pattern(
    "steering.only",
    "output_steering",
    0.5,
    re(
      "\\b(?:(?:respond|reply|answer|output) (?:only|exactly|always) (?:with|in|to|yes|no)\\b|(?:only|always|simply|just) (?:respond|reply|answer|output|say) (?:with|that|in|yes|no|['\"])|your (?:only |entire |whole |next )?(?:response|output|reply|answer|summary) (?:must|should|will) (?:be|say|start|begin|include|contain|only)|(?:responde|contesta|di|escribe) (?:siempre|solo|solamente|unicamente|exactamente|simplemente)\\b|(?:siempre|solo|unicamente) (?:responde|contesta|di|escribe)\\b|tu (?:unica )?(?:respuesta|salida|resumen) (?:debe|tiene que|sera|ha de) )",
    ),
  ),
  pattern(
    "hidden.markup",
    "hidden_text",
    0.3,
    re(
      "(?:display ?: ?none|visibility ?: ?hidden|font-size ?: ?0|color ?: ?(?:white|#fff(?:fff)?)\\b|opacity ?: ?0[;\"' ]|<!--[^\\n]{0,200}\\b(?:instruction|ignore|assistant|ia\\b|ai\\b|instruccion|ignora))",
    ),
  ),
  pattern("hidden.tags", "hidden_text", 0.8),
  pattern("hidden.invisible_letters", "hidden_text", 0.5),
  pattern("hidden.bidi_override", "hidden_text", 0.5),
  pattern("hidden.spaced_letters", "hidden_text", 0.5),
  pattern("encoded.text", "encoded_text", 0.4),
  pattern("encoded.blob", "encoded_text", 0.1),
];
