"""Phrases that give an answer away in many languages: refusals, and words that point at the page."""

import re

__all__ = ["begins_as_refusal", "is_refusal", "mention_of_page"]

_REFUSALS = (
    r"i(?:'m| am) sorry", r"i apologi[sz]e", r"i (?:can(?:'|no)t|can not|am unable|'m unable|won't|must decline)",
    r"(?:sorry|unfortunately), (?:but )?i\b", r"as an ai\b", r"unable to (?:assist|help|process|view)",
    r"es tut mir leid", r"ich (?:kann|darf) (?:\w+ ){0,3}(?:nicht|keine?)\b", r"leider kann ich", r"entschuldigung",
    r"(?:je suis )?désolée?", r"je ne (?:peux|suis) pas", r"lo siento", r"no puedo\b", r"mi dispiace", r"non posso\b",
    r"(?:desculpe|sinto muito|lamento)\b", r"não posso\b", r"het spijt me", r"ik kan (?:\w+ ){0,3}(?:niet|geen)\b",
    r"jag kan (?:\w+ ){0,2}inte", r"beklager", r"przepraszam", r"nie mogę", r"omlouvám", r"nemohu\b", r"sajnálom",
    r"nem tudok", r"извините", r"к сожалению, я", r"я не могу", r"вибачте", r"üzgünüm", r"özür dilerim",
    r"maaf\b", r"saya tidak (?:dapat|bisa)", r"xin lỗi", r"tôi không thể", r"ขออภัย", r"ขอโทษ", r"क्षमा", r"मुझे खेद",
    r"দুঃখিত", r"معذرت", r"عذر", r"آسف", r"لا أستطيع", r"לא אוכל", r"申し訳", r"すみません", r"できません", r"抱歉",
    r"对不起", r"對不起", r"我无法", r"我無法", r"我不能", r"죄송", r"할 수 없습니다",
)  # fmt: skip
_REFUSAL = re.compile("|".join(_REFUSALS), re.IGNORECASE)
_BEGINNING = 160  # characters in which a refusal says that it is one

_PAGE_EN = "page|document|figure|table|chart|graph|diagram|image|picture|slide|report|text|passage|article|screenshot"
_PAGE_DE = "seite|dokument|abbildung|tabelle|diagramm|grafik|bild|folie|bericht|text|abschnitt"
_PAGE_FR = "page|document|figure|tableau|graphique|diagramme|image|diapositive|rapport|texte"
_PAGE_ES = "página|documento|figura|tabla|gráfic[oa]|diagrama|imagen|diapositiva|informe|texto"
_PAGE_IT = "pagina|documento|figura|tabella|grafico|diagramma|immagine|diapositiva|rapporto|testo"
_PAGE_PT = "página|documento|figura|tabela|gráfico|diagrama|imagem|slide|relatório|texto"
_PAGE_NL = "pagina|document|figuur|tabel|grafiek|diagram|afbeelding|dia|rapport|tekst"
_PAGE_RU = "страниц|документ|рисун|таблиц|график|диаграмм|изображени|слайд|отч[её]т|текст"
_POINTERS = (
    rf"\b(?:this|the (?:above|given|provided|following|shown|present)) (?:{_PAGE_EN})s?\b",
    rf"\b(?:in|on|from|to|by|of) the (?:{_PAGE_EN})\b(?! of\b)",
    rf"\b(?:does|do|did) the (?:{_PAGE_EN}) (?:say|show|mention|list|depict|describe|contain|present|indicate|tell)",
    r"\b(?:shown|mentioned|listed|depicted|displayed|described) (?:here|above|below)\b",
    rf"\b(?:diese[rsmn]?|(?:obige|vorliegende|gezeigte|abgebildete|folgende)[rsmn]?) (?:{_PAGE_DE})",
    rf"\b(?:auf der|in der|in dem|im|laut|aus der|aus dem) (?:{_PAGE_DE})\b",
    rf"\b(?:cette|cet|ce) (?:{_PAGE_FR})\b|\b(?:dans|sur|selon|d'après) (?:la |le |l')(?:{_PAGE_FR})\b(?! d)",
    rf"\b(?:est[ea]) (?:{_PAGE_ES})\b|\b(?:en|según) (?:la|el) (?:{_PAGE_ES})\b(?! de)",
    rf"\b(?:quest[oa] |quest')(?:{_PAGE_IT})\b|\b(?:nell[ao]|nel|nell'|secondo (?:la|il)) ?(?:{_PAGE_IT})\b(?! d)",
    rf"\b(?:n?est[ea]|dest[ea]) (?:{_PAGE_PT})\b|\b(?:n[ao]|segundo [ao]) (?:{_PAGE_PT})\b(?! d)",
    rf"\b(?:deze|dit) (?:{_PAGE_NL})\b|\b(?:op|in|volgens) (?:de|het) (?:{_PAGE_NL})\b(?! van)",
    rf"\b(?:эт(?:ой|от|ом|а|у|им)|данн(?:ой|ый|ом|ая)) (?:{_PAGE_RU})|\bна (?:рисунке|странице|графике|слайде)\b",
    r"(?:この|本|上記の|以下の)(?:ページ|文書|図表?|表|グラフ|画像|資料|スライド)",
    r"(?:这|本|该|上|此)(?:一)?(?:页|张|份|个|幅)?(?:页面|文档|文件|图表|图片|图中|表格|幻灯片|报告中)|(?:图|表)中",
    r"(?:이|위의?|해당) (?:페이지|문서|그림|표|그래프|차트|이미지|슬라이드)",
    r"(?:هذه|هذا) (?:الصفحة|الوثيقة|المستند|الشكل|الجدول|الصورة|الرسم)|في (?:الصفحة|الشكل|الجدول|الصورة)\b",
    r"इस (?:पृष्ठ|पेज|दस्तावेज़|चित्र|तालिका|ग्राफ|चार्ट|छवि)",
    r"\bbu (?:sayfa|belge|şekil|tablo|grafik|resim)", r"\bt(?:ej|ym|en|a) (?:stron|dokumen|rysun|tabel|wykres|obraz)",
    r"\b(?:halaman|dokumen|gambar|tabel|grafik) ini\b", r"\b(?:trang|tài liệu|hình|bảng|biểu đồ) này\b",
    r"(?:หน้า|เอกสาร|ภาพ|ตาราง|กราฟ)นี้", r"\bez(?:en)? a[z]? (?:oldal|dokumentum|ábr|táblázat|kép)",
)  # fmt: skip
_POINTER = re.compile("|".join(_POINTERS), re.IGNORECASE)


def is_refusal(text: str) -> bool:
    """Whether a text without JSON says in its beginning what models say when they refuse."""
    return _REFUSAL.search(text[:_BEGINNING].replace("’", "'")) is not None


def begins_as_refusal(text: str) -> bool:
    """Whether a query is a refusal, by its first words."""
    return _REFUSAL.match(text.replace("’", "'")) is not None


def mention_of_page(text: str) -> str:
    """Return the words of a query that point at its page, such as `this figure`; empty if there are none."""
    match = _POINTER.search(text.replace("’", "'"))
    return "" if match is None else match[0]
