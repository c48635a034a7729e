"""How images and texts share one space: modality gap, alignment, cone effect, ranking in mixed corpora, cut-offs."""
