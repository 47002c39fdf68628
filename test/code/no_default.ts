/** A module without a default export. */
export const value = 1;
