"""PDFs for tests, written object by object."""

import hashlib

CORNER = b"1 0 0 rg 0 0 20 20 re f "  # red, at the bottom left
HELVETICA = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def stream(content, entries=b""):
    return b"<</Length %d%s>>\nstream\n%s\nendstream" % (len(content), entries, content)


def file_of(objects, trailer=b""):
    """A PDF of these objects, the first of which is the catalog (ISO 32000-1, 7.5)."""
    out, offsets = bytearray(b"%PDF-1.7\n"), []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    entries = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    end = b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n"
    return bytes(out + end % (size, entries, size, trailer, len(out)))


def document(*leaves, others=(), entries=b"", trailer=b""):
    """A PDF of pages: each the entries of its dictionary, or None where it is broken. `others` begin at object 3."""
    first = 3 + len(others)
    kids = b" ".join(b"%d 0 R" % number for number in range(first, first + len(leaves)))
    tree = b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, len(leaves))
    dictionaries = (b"null" if leaf is None else b"<</Type/Page/Parent 2 0 R%s>>" % leaf for leaf in leaves)
    return file_of([b"<</Type/Catalog/Pages 2 0 R%s>>" % entries, tree, *others, *dictionaries], trailer)


def page(content=b"", entries=b"/MediaBox[0 0 144 72]", font=HELVETICA):
    """A PDF of one page with this content."""
    leaf = b"/Contents 3 0 R/Resources<</Font<</F 4 0 R>>>>" + entries
    return document(leaf, others=(stream(content), font))


def sheets(n, broken=()):
    """A PDF of n pages, the k-th of which is 100 + k points wide."""
    return document(*(None if k in broken else b"/MediaBox[0 0 %d 72]" % (100 + k) for k in range(1, n + 1)))


def labelled(labels, n):
    """A PDF of n pages with this tree of labels (ISO 32000-1, 12.4.2), which is object 3."""
    kids = b" ".join(b"%d 0 R" % number for number in range(4, 4 + n))
    tree = b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, n)
    leaves = [b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d 72]>>" % (100 + k) for k in range(1, n + 1)]
    return file_of([b"<</Type/Catalog/Pages 2 0 R/PageLabels 3 0 R>>", tree, labels, *leaves])


def text(*lines):
    return b"BT /F 12 Tf 10 60 Td 14 TL " + b" T* ".join(b"(%s) Tj" % line for line in lines) + b" ET"


def rc4(key, content):
    state, j, out = list(range(256)), 0, bytearray()
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    i = j = 0
    for byte in content:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def encrypted(user, owner, n_pages=1, entries=b""):
    """A PDF of equal pages under the standard security handler, revision 2 (ISO 32000-1, 7.6.3, algorithms 1 to 4).

    `entries` are those of its catalog.
    """
    padding = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
    user, owner = ((password + padding)[:32] for password in (user, owner))
    name, rights = b"0123456789abcdef", (-4).to_bytes(4, "little", signed=True)
    of_owner = rc4(hashlib.md5(owner).digest()[:5], user)
    key = hashlib.md5(user + of_owner + rights + name).digest()[:5]
    handler = b"<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>" % (
        of_owner.hex().encode(),
        rc4(key, padding).hex().encode(),
    )
    content = rc4(hashlib.md5(key + b"\3\0\0\0\0").digest()[:10], CORNER)  # object 3, generation 0
    return document(
        *[b"/MediaBox[0 0 144 72]/Contents 3 0 R"] * n_pages,
        others=(stream(content), handler),
        entries=entries,
        trailer=b"/Encrypt 4 0 R/ID[<%s><%s>]" % ((name.hex().encode(),) * 2),
    )
