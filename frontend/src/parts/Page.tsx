import { type ReactNode, useEffect, useRef } from "react";

import { isKept } from "../place";
import { text } from "../text";

let first = true;

interface Props {
  title: string;
  /** Content next to the title. */
  aside?: ReactNode;
  lead?: ReactNode;
  narrow?: boolean;
  children: ReactNode;
}

/** A page: its title is the document's, and screen readers announce it after navigation. */
export function Page({ title, aside, lead, narrow = false, children }: Props) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · ${text.shop}`;
  }, [title]);
  useEffect(() => {
    if (!first) {
      heading.current?.focus({ preventScroll: true });
      if (!isKept()) window.scrollTo(0, 0);
    }
    first = false;
  }, []);
  return (
    <main id="main" className={narrow ? "page narrow" : "page"}>
      <header className="page-head">
        <div>
          <h1 ref={heading} tabIndex={-1}>
            {title}
          </h1>
          {lead && <p className="lead">{lead}</p>}
        </div>
        {aside}
      </header>
      {children}
    </main>
  );
}
