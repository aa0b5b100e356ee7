import { Link } from "wouter";

import { Page } from "../parts/Page";
import { text } from "../text";

export function NotFound() {
  return (
    <Page title={text.notFound.title} lead={text.notFound.body}>
      <Link href="/" className="button">
        {text.notFound.back}
      </Link>
    </Page>
  );
}
