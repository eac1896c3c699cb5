// The tokenizer of MiniLM: a prompt -> numbers of word pieces. It is BERT's WordPiece without case
// and without accents, over the words of vocab.txt.

const [CLASSIFY, SEPARATE, UNKNOWN] = ["[CLS]", "[SEP]", "[UNK]"];
const MOST_LETTERS = 100; // a longer word is unknown
// Punctuation is what Unicode calls so, and every ASCII sign that is no letter and no digit.
const PUNCTUATION = /[\p{P}$+<=>^`|~]/u;
const IDEOGRAPH = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2fa1f}]/gu;

// vocabulary: the text of vocab.txt, one piece a line.
export function readVocabulary(text) {
  return new Map(text.trimEnd().split("\n").map((piece, number) => [piece, number]));
}

// Curled quotes become straight, as the Python side does (ftfy).
function words(prompt) {
  const plain = prompt.normalize("NFC").replace(/[\u2018\u2019]/g, "'")
    .replace(/[\u201c\u201d]/g, '"').replace(/[\t\n\r]/g, " ").replace(/[\p{C}\ufffd]/gu, "")
    .replace(IDEOGRAPH, " $& ").toLowerCase().normalize("NFD").replace(/\p{Mn}/gu, "");
  const parts = [];
  for (const word of plain.split(/\s+/)) {
    let part = "";
    for (const letter of word) {
      if (!PUNCTUATION.test(letter)) {
        part += letter;
        continue;
      }
      if (part) parts.push(part);
      parts.push(letter);
      part = "";
    }
    if (part) parts.push(part);
  }
  return parts;
}

// The longest pieces from the left; a word that has none is unknown as a whole.
function piecesOf(word, vocabulary) {
  const letters = [...word];
  if (letters.length > MOST_LETTERS) return [UNKNOWN];
  const pieces = [];
  for (let start = 0, end; start < letters.length; start = end) {
    const piece = (stop) => (start ? "##" : "") + letters.slice(start, stop).join("");
    end = letters.length;
    while (end > start && !vocabulary.has(piece(end))) end -= 1;
    if (end === start) return [UNKNOWN];
    pieces.push(piece(end));
  }
  return pieces;
}

// { ids, cut }: at most `most` numbers with start and end of text, and whether a part was left out.
export function tokenize(prompt, vocabulary, most) {
  const pieces = words(prompt).flatMap((word) => piecesOf(word, vocabulary));
  const kept = pieces.slice(0, most - 2);
  const ids = [CLASSIFY, ...kept, SEPARATE].map((piece) => vocabulary.get(piece));
  return { ids, cut: kept.length < pieces.length };
}
