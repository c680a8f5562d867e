from scipy import stats
def srcc(a,b): return stats.spearmanr(a,b).statistic
def plcc(a,b): return stats.pearsonr(a,b).statistic
