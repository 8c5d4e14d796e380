// Sphinx makes the plural rule of a catalogue with new Function, which the content security policy forbids.
// English has no catalogue, and Chinese one form for every number.
"use strict";

Documentation.addTranslations = ({ messages, locale }) => {
  Object.assign(Documentation.TRANSLATIONS, messages);
  Documentation.PLURAL_EXPR = () => 0;
  Documentation.LOCALE = locale;
};
