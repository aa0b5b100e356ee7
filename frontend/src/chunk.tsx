import { type ComponentType, useEffect, useState } from "react";

import { Page } from "./parts/Page";
import { Blank, Failure } from "./parts/states";
import { text } from "./text";

/** The address of a page that was reloaded because its script was missing. */
const TRIED = "shopwire.loaded-anew";

/** Whether the shop responds at all: if it does not, a reload would show the browser's own error page. */
async function answers(): Promise<boolean> {
  try {
    await fetch(location.href, { method: "HEAD", cache: "no-store" });
    return true;
  } catch {
    return false;
  }
}

/**
 * Return a page whose script is loaded when it is first shown, or earlier by {@link soon}.
 *
 * A missing script may belong to an earlier release: the document is then reloaded once, and names the current
 * scripts. Otherwise the page shows an error and can be retried.
 */
export function chunk<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> & { soon: () => void } {
  let Known: ComponentType<P> | undefined;
  const know = async () => (Known = await load());

  function Chunk(props: P) {
    const [, show] = useState(false);
    const [error, setError] = useState<Error>();
    const get = () => {
      setError(undefined);
      know().then(
        () => {
          sessionStorage.removeItem(TRIED);
          show(true);
        },
        async (reason: Error) => {
          if (sessionStorage.getItem(TRIED) !== location.href && (await answers())) {
            sessionStorage.setItem(TRIED, location.href);
            location.reload();
          } else setError(reason);
        },
      );
    };
    useEffect(() => {
      if (!Known) get();
    }, []);
    if (Known) return <Known {...props} />;
    if (!error) return <Blank />;
    return (
      <Page title={text.shop}>
        <Failure error={new Error(text.errors.chunk)} retry={() => void answers().then((there) => there && location.reload())} />
      </Page>
    );
  }
  Chunk.soon = () => void know().catch(() => undefined);
  return Chunk;
}
