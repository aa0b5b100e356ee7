import { locale, text } from "./text";

/** Return an amount from the API with the sign of its currency. */
export function money(amount: string, currency: string): string {
  return new Intl.NumberFormat(locale, { style: "currency", currency }).format(Number(amount));
}

export function number(amount: number): string {
  return new Intl.NumberFormat(locale).format(amount);
}

/** Return a point in time in the pages' locale. */
export function moment(iso: string): string {
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));
}

/** Return a point in time to the millisecond. */
export function preciseMoment(iso: string): string {
  return new Intl.DateTimeFormat(locale, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 }).format(new Date(iso));
}

/** Return a point in time in short: without its day if that is today. */
export function shortMoment(iso: string): string {
  const then = new Date(iso);
  if (then.toDateString() !== new Date().toDateString()) return moment(iso);
  return new Intl.DateTimeFormat(locale, { timeStyle: "short" }).format(then);
}

/** Return a stretch of time in the largest unit that fits. */
export function duration(seconds: number): string {
  const { time } = text;
  if (seconds < 1) return time.milliseconds(Math.max(0, seconds) * 1000);
  if (seconds < 90) return time.seconds(seconds);
  if (seconds < 90 * 60) return time.minutes(seconds / 60);
  if (seconds < 36 * 3600) return time.hours(seconds / 3600);
  return time.days(seconds / 86_400);
}

/** Return the seconds from one point in time to another. */
export function between(from: string, to: string): number {
  return (Date.parse(to) - Date.parse(from)) / 1000;
}
