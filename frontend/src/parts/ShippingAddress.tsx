import { useId } from "react";

import type { ShippingAddress, ToldAddress } from "../api/client";
import { countries, countryName } from "../countries";
import { text } from "../text";
import { Field } from "./Field";

/** Return the address in the fields of a form; undefined if they are empty. */
export function addressOf(form: HTMLFormElement | null): ShippingAddress | undefined {
  if (!form) return undefined;
  const said = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value).trim()]));
  return Object.entries(said).some(([name, value]) => name !== "country" && value) ? (said as unknown as ShippingAddress) : undefined;
}

interface Props {
  /** The initial values. */
  known: ToldAddress | undefined;
  /** The errors of each field. */
  wrong: (field: string) => string | undefined;
}

/** The form for a shipping address. */
export function ShippingFields({ known, wrong }: Props) {
  const words = text.shipping;
  const id = useId();
  const field = (name: Exclude<keyof ShippingAddress, "country">, autoComplete: string) => (
    <Field label={words[name]} name={name} autoComplete={`shipping ${autoComplete}`} defaultValue={known?.[name] ?? ""} error={wrong(name)} />
  );
  return (
    <>
      {field("name", "name")}
      {field("line1", "address-line1")}
      {field("line2", "address-line2")}
      {field("postal_code", "postal-code")}
      {field("city", "address-level2")}
      {field("region", "address-level1")}
      <div className="field">
        <label htmlFor={id}>{words.country}</label>
        <select id={id} name="country" autoComplete="shipping country" defaultValue={known?.country ?? "GB"}>
          {countries.map(({ code, name }) => (
            <option key={code} value={code}>
              {name}
            </option>
          ))}
        </select>
      </div>
    </>
  );
}

/** An address as it is written on a parcel. */
export function Envelope({ address }: { address: ToldAddress }) {
  const place = [address.postal_code, address.city].filter(Boolean).join(" ");
  const lines = [address.name, address.line1, address.line2, place, address.region, countryName(address.country)].filter(Boolean);
  return (
    <address>
      {lines.map((line, index) => (
        <span key={index}>
          {line}
          <br />
        </span>
      ))}
    </address>
  );
}
