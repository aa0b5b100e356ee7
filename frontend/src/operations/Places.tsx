import { Link, useLocation } from "wouter";

import { useSession } from "../session";
import { words } from "./text";

/** Links to the operators' pages, Flower and the admin. */
export const PLACES: [string, string][] = [
  ["/operations", words.title],
  ["/operations/tasks", words.tasks],
  ["/operations/workers", words.workers],
  ["/operations/schedules", words.schedules],
  ["/operations/limits", words.limits],
];

export function Places() {
  const { flowerUrl } = useSession();
  const [here] = useLocation();
  return (
    <nav className="states places" aria-label={words.places}>
      {PLACES.map(([href, name]) => (
        <Link key={href} href={href} aria-current={here === href ? "page" : undefined}>
          {name}
        </Link>
      ))}
      {flowerUrl && <a href={flowerUrl}>{words.flower}</a>}
      <a href="/admin/">{words.admin}</a>
    </nav>
  );
}
