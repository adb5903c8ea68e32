import type { ReportData, ReportSections } from "./reports-data.ts";
import { type Bar, barChart, type Html, html, NOTHING, table } from "./reports-html.ts";

const MINUTES = 1440;
const HOURS = Array.from({ length: 24 }, (_, hour) => hour);

/** Nothing from elsewhere: no script, font, image or style sheet. Light and dark by the reader's setting. */
const STYLE = `
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6470;--line:#d9dee4;--paper:#fff;--card:#f6f8fa;--good:#2f7d57;--warn:#b7791f;--bad:#c0392b}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebef;--soft:#9aa4b0;--line:#343b44;--paper:#15181c;--card:#1d2126;--good:#4fb286;--warn:#dfa93f;--bad:#ef6a5b}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:960px;margin:0 auto;padding:20px 16px 48px}h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:32px 0 8px}
h2 small,.soft{color:var(--soft);font-weight:400}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:20px 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.card b{display:block;font-size:1.5rem;line-height:1.2}.card span{color:var(--soft);font-size:.85rem}
b.good{color:var(--good)}b.warn{color:var(--warn)}b.bad{color:var(--bad)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:6px 8px;border-bottom:1px solid var(--line);vertical-align:top}td{overflow-wrap:anywhere;min-width:3.5em}
th{color:var(--soft);font-weight:600;white-space:nowrap}.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:11px}
rect.good{fill:var(--good)}rect.warn{fill:var(--warn)}rect.bad{fill:var(--bad)}
.level{font-weight:600}.critical{color:var(--bad)}.warning{color:var(--warn)}.missing{border-left:4px solid var(--bad);padding:4px 12px}
`;

/** The report as one page that needs nothing else. */
export function reportPage(data: ReportData): string {
  const { day, serviceName, environment, madeAt, missing } = data;
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width,initial-scale=1"/>
<meta name="referrer" content="no-referrer"/>
<title>${serviceName} ${day}</title>
<style>${{ html: STYLE }}</style>
</head>
<body>
<main>
<h1>${day} <span class="soft">${serviceName}, ${environment}</span></h1>
<p class="soft">Daily report · Informe diario · UTC · ${madeAt.slice(0, 16).replace("T", " ")}</p>
${missing.length === 0 ? NOTHING : html`<p class="missing">Could not be read · No se pudo leer: ${missing.join(", ")}</p>`}
${cards(data)}
${section("System health", "Salud del sistema", data.health, healthPart)}
${section("Jobs", "Trabajos", data.jobs, jobsPart)}
${section("Usage", "Uso", data.usage, usagePart)}
${section("Work queue", "Cola de trabajo", data.work, workPart)}
${section("Alerts", "Alertas", data.alerts, alertsPart)}
</main>
</body>
</html>
`;
  return page.html;
}

function section<T>(
  english: string,
  spanish: string,
  data: T | null,
  part: (data: T) => Html,
): Html {
  if (data === null) return NOTHING;
  return html`<section><h2>${english} <small>${spanish}</small></h2>${part(data)}</section>`;
}

type Tone = "good" | "warn" | "bad";

const card = (value: string, english: string, spanish: string, tone: Tone = "good"): Html =>
  html`<div class="card"><b class="${tone}">${value}</b><span>${english} · ${spanish}</span></div>`;

function cards({ health, jobs, usage, alerts }: ReportData): Html {
  const bad = jobs === null ? 0 : sum(jobs.map((job) => job.failed + job.missed + job.abandoned));
  const all = [
    health === null
      ? NOTHING
      : card(share(health.available, health.checks), "available", "disponible", toneOf(health)),
    jobs === null
      ? NOTHING
      : card(group(sum(jobs.map((job) => job.succeeded))), "runs succeeded", "ejecuciones"),
    jobs === null
      ? NOTHING
      : card(group(bad), "failed or missed", "fallidas o perdidas", bad === 0 ? "good" : "bad"),
    usage === null ? NOTHING : card(group(usage.tokens), "tokens booked", "tokens registrados"),
    alerts === null
      ? NOTHING
      : card(
          group(alerts.open),
          "alerts open",
          "alertas abiertas",
          alerts.open === 0 ? "good" : "warn",
        ),
  ];
  return html`<div class="cards">${all}</div>`;
}

const toneOf = ({ checks, available }: ReportSections["health"]): Tone => {
  if (checks === 0) return "bad";
  return available === checks ? "good" : available / checks >= 0.99 ? "warn" : "bad";
};

function healthPart(health: ReportSections["health"]): Html {
  const byHour = new Map(health.hours.map((row) => [row.hour, row]));
  const bars = HOURS.map((hour): Bar => {
    const { checks = 0, available = 0 } = byHour.get(hour) ?? {};
    const tone = available === checks ? "good" : "bad";
    const title = `${hour}:00 ${available} of ${checks} checks available`;
    return { label: String(hour), value: available, title, tone };
  });
  const unseen = Math.max(MINUTES - health.checks, 0);
  const rows = Object.entries(health.components).map(([name, counts]) => [
    name,
    group(counts.available),
    group(counts.degraded),
    group(counts.unavailable),
  ]);
  return html`${barChart(bars, "Checks that found everything available, by hour")}
<p class="soft">${group(health.checks)} checks; of ${group(unseen)} minutes nobody knows · minutos sin comprobar</p>
${table([{ head: "Component · Componente" }, number("available"), number("degraded"), number("unavailable")], rows)}`;
}

const number = (head: string) => ({ head, isNumber: true });

function jobsPart(jobs: ReportSections["jobs"]): Html {
  const columns = [
    { head: "Job · Trabajo" },
    number("ok"),
    number("failed"),
    number("missed"),
    number("skipped"),
    number("other"),
    number("p50"),
    number("p95"),
    number("max"),
    number("late"),
    { head: "Errors · Errores" },
  ];
  const rows = jobs.map((job) => [
    job.id,
    group(job.succeeded),
    group(job.failed),
    group(job.missed),
    group(job.skipped),
    group(job.caughtUp + job.abandoned + job.cancelled + job.open),
    duration(job.p50Ms),
    duration(job.p95Ms),
    duration(job.maxMs),
    duration(job.lateMaxMs),
    Object.entries(job.errors)
      .map(([code, runs]) => `${code} ×${runs}`)
      .join(", "),
  ]);
  return table(columns, rows);
}

function usagePart(usage: ReportSections["usage"]): Html {
  const byHour = new Map(usage.hours.map(({ hour, tokens }) => [hour, tokens]));
  const bars = HOURS.map((hour): Bar => {
    const tokens = byHour.get(hour) ?? "0";
    // A chart needs no exact amounts; its titles have them.
    return {
      label: String(hour),
      value: Math.max(Number(tokens), 0),
      title: `${hour}:00 ${group(tokens)} tokens`,
    };
  });
  const drifts = usage.drifts.map((row) => [
    row.cause,
    group(row.found),
    group(row.repaired),
    group(row.tokens),
  ]);
  return html`${barChart(bars, "Tokens by the hour of their booking")}
<p class="soft">${group(usage.events)} uses · usos; ${group(usage.quarantined)} in quarantine · en cuarentena; ${group(usage.gaps)} tokens known to be missing · tokens perdidos</p>
${table(
  [{ head: "Type · Tipo" }, number("tokens"), number("uses · usos")],
  usage.types.map((row) => [row.type, group(row.tokens), group(row.events)]),
)}
${table(
  [{ head: "Reason · Motivo" }, number("tokens"), number("uses · usos")],
  usage.reasons.map((row) => [row.reason, group(row.tokens), group(row.events)]),
)}
${table(
  [{ head: "Largest tenants · Mayores clientes" }, number("tokens")],
  usage.tenants.map((row) => [row.tenant, group(row.tokens)]),
)}
${drifts.length === 0 ? NOTHING : table([{ head: "Difference · Diferencia" }, number("found"), number("repaired"), number("tokens")], drifts)}`;
}

function workPart(work: ReportSections["work"]): Html {
  const rows = work.ended.map((row) => [
    row.kind,
    group(row.succeeded),
    group(row.dead),
    group(row.cancelled),
    duration(row.p50Ms),
    duration(row.p95Ms),
  ]);
  const codes = work.codes.map(({ code, dead }) => [code, group(dead)]);
  const now = ["queued", "running", "retrying", "unaccounted"].map((name) => [
    name,
    group(work.now[name] ?? "0"),
  ]);
  return html`${table([{ head: "Kind · Tipo" }, number("ok"), number("dead"), number("cancelled"), number("p50"), number("p95")], rows)}
${codes.length === 0 ? NOTHING : table([{ head: "Dead because of · Motivo" }, number("items")], codes)}
${table([{ head: "When this was made · Ahora" }, number("items")], now)}`;
}

function alertsPart({ raised, resolved, rows }: ReportSections["alerts"]): Html {
  const cells = rows.map((row) => [
    html`<span class="level ${row.level}">${row.level}</span>`,
    html`${row.title}<br/><span class="soft">${row.key}</span>`,
    clock(row.firstSeen),
    row.resolvedAt === null ? "—" : clock(row.resolvedAt),
    group(row.count),
  ]);
  const columns = [
    { head: "Level · Nivel" },
    { head: "What · Qué" },
    { head: "Since · Desde" },
    { head: "Over · Fin" },
    number("reports"),
  ];
  return html`<p class="soft">${group(raised)} raised · nuevas; ${group(resolved)} resolved · resueltas</p>${table(columns, cells)}`;
}

const clock = (instant: string): string => instant.slice(0, 16).replace("T", " ");
const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0);

/** 1234567 → 1 234 567: read the same way in both languages. */
const group = (amount: string | number): string =>
  String(amount).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");

const share = (part: number, whole: number): string =>
  whole === 0 ? "—" : `${((part / whole) * 100).toFixed(part === whole ? 0 : 2)} %`;

function duration(ms: number | null): string {
  if (ms === null) return "—";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 120_000 ? `${(ms / 1000).toFixed(1)} s` : `${(ms / 60_000).toFixed(1)} min`;
}
