/** The customers of the simulated product. */
export interface Company {
  readonly tenant: string;
  readonly name: string;
  /** How busy it is, compared with the others. */
  readonly weight: number;
}

export const COMPANIES: readonly Company[] = [
  { tenant: "panaderia-la-espiga", name: "Panadería La Espiga", weight: 1 },
  { tenant: "northwind-legal", name: "Northwind Legal LLP", weight: 4 },
  { tenant: "clinica-munoz", name: "Clínica Dental Muñoz", weight: 2 },
  { tenant: "harbour-freight-co", name: "Harbour Freight & Co", weight: 3 },
  { tenant: "logistica-andina", name: "Logística Andina S.A.S.", weight: 5 },
];
